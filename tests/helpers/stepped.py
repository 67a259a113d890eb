"""Small methods as the tests of a step and of embedding take them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader, fit_words
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment, Optimizer, Schedule, Train
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.outcome import Outcome
from xmr_e2e.training.step import Stepper


class Made:
    """A miniature's data, its tokeniser and a method, whose towers stand still if they are frozen."""

    def __init__(self, shards: Path, *, frozen: bool) -> None:
        self.data = Data(shards, image_size=32, load_size=40, words=WordVectors(dim=6), workers=0)
        self.tokenizer, words = words_of(shards)
        torch.manual_seed(0)
        config: Any = type(METHOD)(image=METHOD.image, text=METHOD.text, hidden=16, dim=8, frozen=frozen)
        self.method: Method = config.build(DatasetInfo(4, False, 32, torch.from_numpy(words))).train()

    def batches(self, split: str, modality: str) -> BatchDataset:
        return BatchDataset(self.data, split, {modality: self.method.input_kinds[modality]}, self.tokenizer, seed=0)


METHOD = Dscmr(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), hidden=16, dim=8)
SGD = Optimizer("sgd", lr=0.1, momentum=0.0, lr_overrides={"towers.image": 0.01})
MOVING = {"sgd": Optimizer("sgd", lr=0.1, momentum=0.9), "adamw": Optimizer("adamw", lr=0.01)}
CONTEXT, SEED = StepContext("training", progress=0.55), (0, 0, 0)


@cache
def words_of(shards: Path) -> Any:
    return fit_words(Data(shards, image_size=32, load_size=40, words=WordVectors(dim=6), workers=0))


class Trained:
    """A miniature's stepper, its method, and the first batch of the training split."""

    def __init__(
        self,
        shards: Path,
        schedule: Schedule = Schedule(),
        optimizer: Optimizer = SGD,
        scaler: Any = None,
        **train: Any,
    ) -> None:
        data = Data(shards, image_size=32, load_size=40, words=WordVectors(dim=6), workers=0)
        experiment = Experiment("tiny", data, METHOD, optimizer, schedule, Train(**train))
        tokenizer, words = words_of(data.shards)
        batches = BatchDataset(data, "train", METHOD.input_kinds, tokenizer, seed=experiment.train.seed)
        torch.manual_seed(0)
        self.method: Method = METHOD.build(DatasetInfo(4, False, 32, torch.from_numpy(words)))
        accelerator = Accelerator(cpu=True)
        accelerator.scaler = scaler
        self.stepper = Stepper(experiment, accelerator, self.method, "training", experiment.train.max_skipped_steps)
        self.batch = next(Loader(batches, 8).epoch())

    def step(self, context: StepContext = CONTEXT) -> Outcome:
        return self.stepper.step(self.batch, context, SEED)

    def moved(self) -> dict[str, torch.Tensor]:
        """Take a step; by how much each parameter has moved."""
        before = {name: p.detach().clone() for name, p in self.method.named_parameters()}
        self.step()
        return {name: p.detach() - before[name] for name, p in self.method.named_parameters()}
