"""Validation by the loss: its mean over the split's samples, whatever the batches are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from tests.helpers.forked import tiny
from tests.helpers.stepped import words_of
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.canonical import CanonicalMethod
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.checkpoints import _remove_all
from xmr_e2e.training.setup import TrainingData
from xmr_e2e.training.validation import validate, validation_loss

METHOD = Cca(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), dim=4)


@pytest.mark.parametrize("batch_size", [5, 12])
def test_the_loss_is_the_mean_over_samples(batch_size: int, tiny_shards: Path) -> None:
    data = Data(tiny_shards, image_size=32, load_size=40, words=WordVectors(dim=6), workers=0)
    tokenizer, words = words_of(tiny_shards)
    torch.manual_seed(0)
    method = METHOD.build(DatasetInfo(4, False, 32, torch.from_numpy(words))).train()
    batches = BatchDataset(data, "val", METHOD.input_kinds, tokenizer, seed=0)
    found = validation_loss(method, Loader(batches, batch_size), StepContext("labels"), torch.device("cpu"))
    assert method.training

    method.eval()
    whole = next(Loader(batches, 12).epoch())
    with torch.no_grad():
        logits = method.represent(whole.prepared().inputs)
    expected = {name: F.cross_entropy(rows, whole.labels).item() for name, rows in logits.items()}
    assert found["loss"] == found["total"] == pytest.approx(sum(found[name] for name in expected), rel=1e-5)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_folders_that_are_gone_already_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "there" / "in it").mkdir(parents=True)
    _remove_all([tmp_path / "gone", tmp_path / "there"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "figure"), [(0, "loss"), (1, "average mAP@all")])
def test_a_stage_that_keeps_its_last_epoch_is_validated_by_its_loss(
    number: int, figure: str, tiny_shards: Path, tmp_path: Path
) -> None:
    """As DRCL's prior stages are, which score on the way (`--method.score-on val`); others by what they are kept by."""
    config = TwoStages(image=METHOD.image, text=METHOD.text, dim=4)
    experiment = tiny(tiny_shards, tmp_path, config, select="mAP@all", protocol="clean")
    tokenizer, words = words_of(tiny_shards)
    manifest = load_manifest(tiny_shards)
    torch.manual_seed(0)
    method = config.build(DatasetInfo(4, False, 32, torch.from_numpy(words)))
    model = SavedModel(config, experiment.data, manifest.classes, False, tokenizer, {}, method)
    data = TrainingData(experiment, Accelerator(cpu=True), model, manifest)
    context = StepContext(method.stages[number].name)
    found = validate(method, number, context, data)
    assert figure in found and ("loss" in found) == (figure == "loss")


@dataclass(frozen=True, kw_only=True)
class TwoStages(Cca):
    """One that keeps its last epoch, and one that is kept by a figure."""

    def build(self, dataset: DatasetInfo) -> TwoStagesModel:
        return TwoStagesModel(self, dataset)


class TwoStagesModel(CanonicalMethod):
    @property
    def stages(self) -> tuple[Stage, ...]:
        return Stage("first", self.modalities, select="last"), Stage("second", self.modalities)

    def embed(self, modality: str, inputs: Any) -> torch.Tensor:
        return self.represent({modality: inputs})[modality]
