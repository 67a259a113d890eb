"""A training that decodes its pictures itself: nearly the loss of one whose loader does, and it goes on as others."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.forked import result, tiny, train, trainings
from xmr_e2e.data.config import Data
from xmr_e2e.runs.experiment import Experiment

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def decoded(way: str, shards: Path, runs: Path, workers: int = 0) -> Experiment:
    experiment = tiny(shards, runs, workers=workers, epochs=1)
    data: Data = replace(experiment.data, decode=way)  # type: ignore[arg-type]
    return replace(experiment, data=data)


def first_loss(run: Path) -> float:
    """Of pictures as they were cut and mirrored. Adam makes of the least difference another step, so that later ones
    drift apart."""
    record = result(run)[0][0]
    assert (record["step"], record["stage"]) == (1, "prior-image")
    return float(record["loss"]["total"])


def test_the_first_loss_is_nearly_that_of_pictures_from_the_loader(tiny_shards: Path, tmp_path: Path) -> None:
    for way in ("cpu", "device"):
        training = train(decoded(way, tiny_shards, tmp_path / way), tmp_path)
        assert training.end() == 0, training.printed
    cpu, device = (first_loss(tmp_path / way / "tiny" / "run") for way in ("cpu", "device"))
    assert device == pytest.approx(cpu, rel=0.005) and device != cpu


def test_a_training_that_was_stopped_goes_on_with_the_same_pictures(tiny_shards: Path, tmp_path: Path) -> None:
    whole = decoded("device", tiny_shards, tmp_path / "whole", workers=1)
    assert train(whole, tmp_path).end() == 0
    parted = decoded("device", tiny_shards, tmp_path / "parted", workers=1)
    run = tmp_path / "parted" / "tiny" / "run"
    with trainings(parted, tmp_path) as (training,):
        training.wait_for(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text())
        training.send(signal.SIGUSR1)
        assert training.end() == 75, training.printed
    assert train(parted, tmp_path).end() == 0
    assert result(run) == result(tmp_path / "whole" / "tiny" / "run")
