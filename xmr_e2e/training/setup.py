"""The model that a training begins with, and the batches of its splits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.inputs import CachedFeatures
from xmr_e2e.data.loader import Loader
from xmr_e2e.methods.base import build_method
from xmr_e2e.methods.stages import Stage
from xmr_e2e.models.embed import cache_frozen_features
from xmr_e2e.models.feature_store import FeatureStore
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import Manifest
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.training.display import busy
from xmr_e2e.training.selection import selected_on, validation_split
from xmr_e2e.training.tower_weights import given_tokenizer, given_towers, without_given


def build_model(experiment: Experiment, run: Run, accelerator: Accelerator, manifest: Manifest) -> SavedModel:
    """The method with the weights that it begins with, on the device, and what is saved with it; but for those of other
    runs' towers (`tower_weights`), for which a run that goes on has no need. Called by every rank.

    Raises:
        XmrError: words, weights or learning rates that do not fit.
    """
    train, data = experiment.train, experiment.data
    with accelerator.main_process_first():
        if accelerator.is_main_process and "tokens" in experiment.method.input_kinds.values():
            with busy("fitting words to the training texts"):
                given = None if run.has_words else given_tokenizer(experiment.method, data)
                run.fit_words(data, given, idf=any(tower.needs_idf for tower in experiment.method.towers.values()))
        tokenizer, words = run.words()
        torch.manual_seed(train.seed)
        vectors = torch.from_numpy(words)
        info = DatasetInfo(
            len(manifest.classes), manifest.multi_label, data.image_size, vectors, manifest.widths,
            published=frozenset(given_towers(experiment.method)), idf=run.idf(),
            frame_size=data.video.size, sound_rate=data.audio.rate,
        )  # fmt: skip
        method = build_method(without_given(experiment.method), info).to(accelerator.device)
    experiment.optimizer.check(method, [stage.name for stage in method.training_stages])
    return SavedModel(
        experiment.method, data, manifest.classes, manifest.multi_label, tokenizer, manifest.widths, method,
        protocol=train.rules, selected_on=selected_on(method.training_stages, train, manifest.splits),
    )  # fmt: skip


def feature_store(train: Train) -> FeatureStore | None:
    """The store of the features of frozen towers; None where they are not kept."""
    if train.features == "none":
        return None
    return FeatureStore(train.runs / "features" if train.features == "auto" else Path(train.features))


@dataclass(frozen=True)
class TrainingData:
    """The batches of a training's splits, for each of its stages."""

    experiment: Experiment
    accelerator: Accelerator
    model: SavedModel
    manifest: Manifest

    @property
    def validated_on(self) -> Literal["val", "test"] | None:
        """The split on which epochs are validated; None where there is no such split."""
        split = validation_split(self.experiment.train)
        return split if split in self.manifest.splits else None

    @cached_property
    def _cached(self) -> dict[str, dict[str, CachedFeatures]]:
        return {split: {} for split in ("train", self.validated_on) if split in self.manifest.splits}

    def cached_features(self, stage: Stage, split: str) -> dict[str, CachedFeatures]:
        """The outputs on a split of the towers that stand still in a stage: extracted before the first stage in which
        they do, of the weights that they have then."""
        return {name: self._cached[split][name] for name in self._standing_still(stage) if name in self._cached[split]}

    def _standing_still(self, stage: Stage) -> tuple[str, ...]:
        return self.model.method.standing_still(stage)

    def extract(self, stage: Stage) -> bool:
        """Extract the features of the towers that stand still in this stage and did not before; True where there are
        any. Called by every rank, before the stage's optimiser and when the weights are what they will be."""
        new = [name for name in self._standing_still(stage) if name not in self._cached["train"]]
        found = cache_frozen_features(
            self.model.method, self.experiment.data, self.model.tokenizer, list(self._cached), new,
            feature_store(self.experiment.train),
        )  # fmt: skip
        for split, by_modality in found.items():
            self._cached[split].update(by_modality)
        return bool(new)

    def batches(self, stage: Stage, split: str) -> BatchDataset:
        """The samples of a split that take part in a stage."""
        kinds = self.model.method.input_kinds
        return BatchDataset(
            self.experiment.data,
            split,
            {modality: kinds[modality] for modality in stage.modalities},
            self.model.tokenizer,
            seed=self.experiment.train.seed,
            cached_features=self.cached_features(stage, split),
            is_training=split == "train",
        )

    def loader(self, stage: Stage, split: str) -> Loader:
        """This rank's batches of a split in a stage."""
        return Loader(
            self.batches(stage, split),
            self.experiment.train.batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            device=self.accelerator.device,
            batch_classes=self.experiment.train.batch_classes if split == "train" else None,
        )
