"""DRCL on five modalities from raw files to the report: what it learns, and that its way does not depend on processes
and interruptions."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from preprocessing.folder.command import folder as build
from preprocessing.synthetic.raw_set import synthetic
from recipes import drcl_five_media
from tests.helpers.forked import result, train, trainings
from tests.helpers.once import made_once
from tests.helpers.raw_media import RATE, five_modalities
from xmr_e2e.data.config import Data
from xmr_e2e.data.media import Shapes, Sounds, Videos
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.towers.base import TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.points import PointNet
from xmr_e2e.towers.sound import SoundTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.towers.video import MeanOfFrames
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator

pytestmark = pytest.mark.slow

EPOCHS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn set: 4 classes, samples of one modality each."""

    def draw(folder: Path) -> None:
        synthetic(folder / "raw", five=True, per_class=24, workers=1)
        build(folder / "raw", folder / "shards")

    return made_once(tmp_path_factory, "five_media", draw) / "shards"


def small(shards: Path, runs: Path, **options: object) -> Experiment:
    """The recipe, of fewer epochs, smaller pictures and shorter sounds."""
    base = drcl_five_media.experiment()
    sounds = replace(base.data.audio, seconds=1.0)
    return replace(
        base,
        data=replace(base.data, shards=shards, workers=0, image_size=48, load_size=54, audio=sounds),
        train=replace(base.train, runs=runs, name="run", **{"epochs": EPOCHS, **options}),
    )


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:

    def fit(folder: Path) -> None:
        experiment = small(shards, folder)
        assert run_experiment(experiment, make_accelerator(experiment.train)) == 0

    return made_once(tmp_path_factory, "five_media_run", fit) / "drcl_five_media" / "run"


def test_each_of_the_twenty_directions_is_above_twice_random(run: Path) -> None:
    figures = result(run)[1]
    scores, random = (figures[kind]["figures"] for kind in ("model", "random"))
    for one, other in permutations(MODALITIES, 2):
        direction = f"{one}_to_{other}"
        found, chance = (each[direction]["scores"]["mAP@all"] for each in (scores, random))
        assert found > 2 * chance, f"{direction}: {found:.3f}, random rankings {chance:.3f}"


def test_the_report_is_there(run: Path) -> None:
    assert (run / "report.html").stat().st_size > 10_000


TOWERS: dict[str, TowerConfig] = {
    "image": ImageTower("resnet10_slim", weights="none"),
    "text": TextCnn(kernels=8),
    "audio": SoundTower(mels=32),
    "video": MeanOfFrames("resnet10_slim", weights="none"),
    "shape3d": PointNet(width=16),
}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight samples of each modality."""
    return five_modalities(tmp_path_factory.mktemp("few"))


def tiny(shards: Path, runs: Path, towers: Mapping[str, TowerConfig] = TOWERS) -> Experiment:
    """One epoch of two steps for each stage."""
    media: dict[str, Any] = {"audio": Sounds(RATE, seconds=0.2), "video": Videos(2, 32), "shape3d": Shapes(64)}
    data = Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0, **media)
    method = Drcl(**towers, hidden=16, dim=8)  # type: ignore[arg-type]  # mappings are read at run time
    options = Train(epochs=1, batch_size=4, runs=runs, name="run", checkpoint_steps=1)
    return Experiment("tiny", data, method, Optimizer(lr=1e-3), train=options)


@pytest.fixture(scope="module")
def whole(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    training = train(tiny(few, folder), folder)
    assert training.end() == 0, training.printed
    return folder / "tiny" / "run"


def test_two_processes_give_the_losses_and_figures_of_one(few: Path, tmp_path: Path) -> None:
    # Each process normalizes by its own part of a batch where batch normalization is not frozen.
    still = {
        name: tower if name == "text" else replace(tower, freeze_batch_norm=True)  # type: ignore[call-arg]
        for name, tower in TOWERS.items()
    }
    assert train(tiny(few, tmp_path / "one", still), tmp_path).end() == 0
    with trainings(tiny(few, tmp_path / "two", still), tmp_path, processes=2) as both:
        assert [each.end() for each in both] == [0, 0], both[0].printed
    one, two = (result(tmp_path / name / "tiny" / "run") for name in ("one", "two"))
    stages = {record["stage"] for record in one[0]}
    assert stages == {f"{stage}-{modality}" for stage in ("prior", "consistency") for modality in MODALITIES}
    assert len(one[0]) == len(two[0])
    for mine, theirs in zip(one[0], two[0]):
        assert mine.get("samples") == theirs.get("samples") and mine["step"] == theirs["step"]
        for kind in ("loss", "val"):  # steps have the one, ends of epochs the other
            assert theirs.get(kind, {}) == pytest.approx(mine.get(kind, {}), rel=1e-4, abs=1e-6)
    for direction, found in one[1]["model"]["figures"].items():
        assert two[1]["model"]["figures"][direction]["scores"] == pytest.approx(found["scores"], abs=1e-6), direction


def test_killed_and_gone_on_with_it_has_the_trace_of_one_that_was_not(few: Path, whole: Path, tmp_path: Path) -> None:
    experiment, run = tiny(few, tmp_path), tmp_path / "tiny" / "run"
    with trainings(experiment, tmp_path) as (training,):
        training.wait_for(lambda: list(run.glob("checkpoints/stage-03-*")))
        training.send(signal.SIGKILL)
        assert training.end() == -signal.SIGKILL
    again = replace(experiment, train=replace(experiment.train, name=None, resume=run))
    last = train(again, tmp_path)
    assert last.end() == 0, last.printed
    assert result(run) == result(whole)
