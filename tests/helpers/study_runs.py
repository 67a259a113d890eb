"""Runs and datasets of which a study is made."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests import ROOT
from tests.helpers.built import write
from xmr_e2e.data.config import Data
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import Manifest, Shard, Split, load_manifest
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.selection import with_defaults

# Started as a program, a recipe or study that trains nothing says its options and ends when it may, before it has
# imported what takes long.
PROGRAM = """
import pathlib, sys, time

if __name__ == "__main__":
    print("options", *sys.argv[1:])
    while not pathlib.Path("end").exists():
        time.sleep(0.2)
    sys.exit()
"""
RECIPE = f"""{PROGRAM}
from xmr_e2e.data.config import Data
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

def experiment():
    data, method = Data(pathlib.Path("shards/NAME")), Dscmr(image=ImageTower("vgg19"), text=TextCnn())
    return Experiment("NAME", data, method, Optimizer(), train=Train(epochs=7))
"""
EVALUATION = """
{"dataset": "mine", "split": "test", "selection": "",
 "model": {"figures": {"image_to_text": {"scores": {}, "queries": 1}}, "average": {}},
 "random": {"figures": {}, "average": {}}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a project with two recipes, of which only the first has its shards."""
    for name in ("first", "second"):
        write(tmp_path / "recipes" / f"{name}.py", RECIPE.replace("NAME", name))
    write(tmp_path / "recipes" / "__init__.py", "")
    write_manifest(tmp_path / "shards" / "first")
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_manifest(folder: Path, labels: Mapping[str, int] | None = None) -> None:
    """Of a test split, to be looked at before any sample is read."""
    folder.mkdir(parents=True)
    labels = {"class": 3} if labels is None else labels
    split = Split((Shard("test.tar", 3, 3072, "0" * 64),), labels, {"image": 3, "text": 3})
    Manifest("mine", ("class",), False, {"test": split}).save(folder)


def make_run(run: Path, *, seed: int, measured: bool = True, epochs: int = 7) -> None:
    """A run of the first recipe."""
    experiment = runpy.run_path("recipes/first.py")["experiment"]()
    train = Train(epochs=epochs, seed=seed, runs=run.parent, name=run.name, checkpoints_kept=5)
    experiment = with_defaults(replace(experiment, train=train), load_manifest(experiment.data.shards))
    data = replace(experiment.data, shards=Path("/elsewhere"), workers=3)
    Run(run).start(replace(experiment, data=data), {})
    if measured:
        write(run / "evaluation" / "test.json", EVALUATION)


def missing(*arguments: str) -> list[str]:
    return ["table", "--missing", *arguments]


def recipe(shards: Path = Path("nowhere"), name: str = "mine") -> Experiment:
    return Experiment(name, Data(shards), Dscmr(image=ImageTower("vgg19"), text=TextCnn()), Optimizer())
