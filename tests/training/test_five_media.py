"""DRCL on five modalities from raw files to the report: what it learns, and that its way does not depend on processes
and interruptions."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from preprocessing.folder.command import folder as build
from preprocessing.synthetic.raw_set import synthetic
from recipes import drcl_five_media
from tests.helpers.forked import result, train, trainings
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator

pytestmark = pytest.mark.slow

EPOCHS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn set: 4 classes, samples of one modality each."""
    folder = tmp_path_factory.mktemp("five_media")
    synthetic(folder / "raw", five=True, per_class=24, workers=1)
    build(folder / "raw", folder / "shards")
    return folder / "shards"


def small(shards: Path, runs: Path, **options: object) -> Experiment:
    """The recipe, of fewer epochs."""
    base = drcl_five_media.experiment()
    return replace(
        base,
        data=replace(base.data, shards=shards, workers=0),
        train=replace(base.train, runs=runs, name="run", checkpoint_steps=2, **{"epochs": EPOCHS, **options}),
    )


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    experiment = small(shards, folder)
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    return folder / "drcl_five_media" / "run"


def test_each_of_the_twenty_directions_is_above_twice_random(run: Path) -> None:
    figures = result(run)[1]
    scores, random = (figures[kind]["figures"] for kind in ("model", "random"))
    for one, other in permutations(MODALITIES, 2):
        direction = f"{one}_to_{other}"
        found, chance = (each[direction]["scores"]["mAP@all"] for each in (scores, random))
        assert found > 2 * chance, f"{direction}: {found:.3f}, random rankings {chance:.3f}"


def test_the_report_is_there(run: Path) -> None:
    assert (run / "report.html").stat().st_size > 10_000


def test_two_processes_go_the_way_of_one(shards: Path, tmp_path: Path) -> None:
    one = train(small(shards, tmp_path / "one", epochs=1), tmp_path)
    assert one.end() == 0, one.printed
    with trainings(small(shards, tmp_path / "two", epochs=1), tmp_path, processes=2) as both:
        assert [each.end() for each in both] == [0, 0], both[0].printed
    (alone, _), (together, _) = (result(tmp_path / name / "drcl_five_media" / "run") for name in ("one", "two"))
    assert len(alone) == len(together) and {record["stage"] for record in alone} >= {"prior-audio", "consistency-video"}
    for mine, theirs in zip(alone, together):
        assert mine.get("samples") == theirs.get("samples") and mine["step"] == theirs["step"]
        for term, value in mine.get("loss", {}).items():
            assert math.isclose(value, theirs["loss"][term], rel_tol=2e-3, abs_tol=1e-4), (mine, theirs)


def test_killed_and_gone_on_with_it_has_the_trace_of_one_that_was_not(shards: Path, tmp_path: Path) -> None:
    whole = train(small(shards, tmp_path / "whole", epochs=1), tmp_path)
    assert whole.end() == 0, whole.printed
    experiment = small(shards, tmp_path / "killed", epochs=1)
    folder = tmp_path / "killed" / "drcl_five_media" / "run"
    with trainings(experiment, tmp_path) as (training,):
        training.wait_for(lambda: list(folder.glob("checkpoints/stage-03-*")))
        training.send(signal.SIGKILL)
        assert training.end() == -signal.SIGKILL
    again = replace(experiment, train=replace(experiment.train, name=None, resume=folder))
    last = train(again, tmp_path)
    assert last.end() == 0, last.printed
    assert result(folder) == result(tmp_path / "whole" / "drcl_five_media" / "run")
