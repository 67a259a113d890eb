"""The loader processes of a training: the same ones from its first epoch to its evaluation, and none behind it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.helpers.forked import result, train
from tests.helpers.small_trainings import before_step, small
from xmr_e2e.training import launch

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def note_processes(file: Path) -> None:
    """Add a line with this process's loader processes, which a server has forked."""
    servers = psutil.Process().children()
    found = sorted(child.pid for server in servers for child in server.children())
    with open(file, "a") as lines:
        lines.write(f"{found}\n")


def watch(file: Path) -> None:
    """In a training's process: note its loader processes in each epoch, before the evaluation, and at the end."""
    before_step(2, partial(note_processes, file))
    before_step(7, partial(note_processes, file))
    measure, run = launch._measure, launch._run

    def measured(*arguments: object) -> None:
        note_processes(file)
        measure(*arguments)  # type: ignore[arg-type]

    def whole(*arguments: object) -> object:
        try:
            return run(*arguments)  # type: ignore[arg-type]
        finally:
            note_processes(file)

    launch._measure, launch._run = measured, whole  # type: ignore[assignment]


def test_a_training_keeps_its_loader_processes_to_its_end(tiny_shards: Path, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    experiment = small(tiny_shards, tmp_path / "with", workers=2)
    training = train(experiment, tmp_path, prepare=partial(watch, noted))
    assert training.end() == 0, training.log.read_text()
    first, second, evaluated, left = noted.read_text().splitlines()
    assert first == second == evaluated and first.count(",") == 1
    assert left == "[]"
    without = small(tiny_shards, tmp_path / "without", workers=0)
    assert train(without, tmp_path, prepare=os.getpid).end() == 0
    runs = (each.train.runs / each.name / "run" for each in (experiment, without))
    assert result(next(runs)) == result(next(runs))
