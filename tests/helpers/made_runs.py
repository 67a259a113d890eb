"""Run folders as trainings leave them, with figures that a test gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xmr_e2e.data.config import Data
from xmr_e2e.files import sha256_of
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.sdcmr import Sdcmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import Manifest, Shard, Split
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiLstmCnn, TextCnn

WAYS = ("image_to_text", "text_to_image")
IMAGE, TEXT = ImageTower("vgg19"), TextCnn()
METHODS: Mapping[str, MethodConfig] = {
    "dscmr": Dscmr(image=IMAGE, text=TEXT),
    "sdcmr": Sdcmr(image=IMAGE, text=TEXT),
    "drcl": Drcl(image=IMAGE, text=TEXT),
    "alscor": Alscor(image=IMAGE, text=BiLstmCnn()),
}
CLEAN = {"name": "clean", "gallery": "test", "selected_on": "val", "differences": []}


@dataclass(frozen=True)
class Made:
    """A run folder with an evaluation whose figures are given."""

    method: str = "dscmr"
    dataset: str = "wikipedia"
    sizes: tuple[int, int, int] = (2173, 231, 462)
    split: str = "test"
    classes: int = 10
    seed: int = 0
    scores: Mapping[str, float] = field(default_factory=lambda: {"mAP@all": 0.5})
    protocol: Mapping[str, Any] | None = field(default_factory=lambda: CLEAN)
    name: str = "test"
    """of the evaluation"""
    directions: tuple[str, ...] = WAYS
    pools: tuple[str, ...] = ()
    """mixed pools, in which each figure is half of a direction's"""
    config: MethodConfig | None = None
    train: Train = Train()
    workers: int | None = None
    commit: str = "0123456789ab"
    training: Mapping[str, float] | None = None
    """seconds and peak_memory"""

    def write(self, run: Path) -> Path:
        shards = self._shards(run.parent / f"shards-{run.name}")
        experiment = Experiment(
            name=f"{self.method}_wikipedia",
            data=Data(shards, workers=self.workers),
            method=self.config or METHODS[self.method],
            optimizer=Optimizer(),
            train=replace(self.train, seed=self.seed, name=run.name),
        )
        environment = {"manifest_sha256": sha256_of(shards / "manifest.json"), "commit": self.commit}
        Run(run).start(experiment, environment)
        Run(run).save_evaluation(self.name, self._document())
        return run

    def _shards(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        splits = {
            name: Split((Shard(f"{name}.tar", size, 1024 * size, "0" * 64),), {}, {"image": size, "text": size})
            for name, size in zip(("train", "val", "test"), self.sizes)
            if size
        }
        Manifest(self.dataset, tuple(map(str, range(self.classes))), False, splits).save(folder)
        return folder

    def _document(self) -> dict[str, Any]:
        measured = self.sizes[("train", "val", "test").index(self.split)]
        document: dict[str, Any] = {
            "dataset": self.dataset,
            "split": self.split,
            "selection": "epoch 1, on the validation split",
        }
        if self.training:
            document |= {"training": self.training}
        if self.protocol is not None:
            document |= {"protocol": self.protocol, "classes": list(map(str, range(self.classes)))}
        for kind, share in (("model", 1.0), ("random", 0.25)):
            scores = {name: share * value for name, value in self.scores.items()}
            figures = {way: {"scores": scores, "queries": measured} for way in self.directions}
            halves = {name: value / 2 for name, value in scores.items()}
            pools = {pool: {"scores": halves, "queries": measured} for pool in self.pools}
            document[kind] = {"figures": figures, "average": scores, **({"pools": pools} if pools else {})}
        return document
