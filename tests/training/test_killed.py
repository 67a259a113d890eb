"""A training that is killed again and again, and goes on each time as if nothing had been.

Real processes and real SIGKILL: what is left on the disk is what a killed process leaves.
"""

from __future__ import annotations

import mmap
import os
import platform
import random
import signal
import time
from collections import Counter
from functools import partial, wraps
from pathlib import Path
from typing import Any

import psutil
import pytest
from accelerate import Accelerator
from torch import nn

from tests.helpers.forked import Training, result, tiny, train, trainings
from xmr_e2e.files import link_or_copy, write_atomically
from xmr_e2e.runs import evaluate
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.training.checkpoints import Checkpoints
from xmr_e2e.training.trainer import Trainer

pytestmark = pytest.mark.slow

STEP, VALIDATION, CHECKPOINT, BETWEEN, EVALUATION = range(1, 6)
"""what a training is at: a step, ..., the way from a stage to the next, measuring"""
KILLS = {STEP: 5, VALIDATION: 4, CHECKPOINT: 5, BETWEEN: 3, EVALUATION: 3}


def mark(marker: Path) -> None:
    """In the training's process: write into a file, through shared memory, what it is at."""
    with open(marker, "r+b") as stream:
        shown = mmap.mmap(stream.fileno(), 1)

    def watch(owner: Any, name: str, phase: int) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def marked(*args: Any, **kwargs: Any) -> Any:
            before, shown[0] = shown[0], phase
            try:
                return original(*args, **kwargs)
            finally:
                shown[0] = before

        setattr(owner, name, marked)

    watch(Trainer, "_step", STEP)
    watch(Trainer, "_validate", VALIDATION)
    watch(Checkpoints, "save", CHECKPOINT)
    watch(Trainer, "_leave_stage", BETWEEN)
    watch(evaluate, "evaluate_run", EVALUATION)


def kill_in(phase: int, training: Training, marker: Path, run: Path, chance: random.Random) -> bool:
    """Kill the training at a random moment of the phase; False if it came to its end before."""

    def is_in_phase() -> bool:
        if marker.read_bytes()[0] != phase:
            return False
        return phase != CHECKPOINT or bool(list(run.glob("checkpoints/*.part")))

    to_pass = chance.randrange(4) if phase == STEP else 0
    while not training.is_over:
        if not is_in_phase():
            time.sleep(0.001)
        elif to_pass:
            to_pass -= 1
            time.sleep(0.05)
        else:
            time.sleep(chance.uniform(0, 0.03))
            training.send(signal.SIGSTOP)
            training.wait_for(lambda: psutil.Process(training.pid).status() == psutil.STATUS_STOPPED)
            if is_in_phase():
                training.send(signal.SIGKILL)
                assert training.end() == -signal.SIGKILL
                return True
            training.send(signal.SIGCONT)
    return False


def test_killed_twenty_times_a_training_goes_the_way_of_one_that_was_not(tiny_shards: Path, tmp_path: Path) -> None:
    often = {"checkpoint_steps": 2}
    whole = train(tiny(tiny_shards, tmp_path, name="whole", **often), tmp_path)
    assert whole.end() == 0, whole.printed
    expected = result(tmp_path / "tiny" / "whole")
    assert len(dict.fromkeys(record["stage"] for record in expected[0])) == 4
    assert sum("samples" in record for record in expected[0]) == 40
    assert sum("val" in record for record in expected[0]) == 8

    chance, marker = random.Random(7), tmp_path / "marker"
    before_the_end = [phase for phase, count in KILLS.items() for _ in range(count) if phase != EVALUATION]
    chance.shuffle(before_the_end)
    to_do = [*before_the_end, *[EVALUATION] * KILLS[EVALUATION], None]  # the last one runs to its end
    runs, killed = [tmp_path / "tiny" / "run-0"], Counter[int]()
    while to_do:
        marker.write_bytes(bytes(1))
        experiment = tiny(tiny_shards, tmp_path, name=runs[-1].name, **often)
        with trainings(experiment, tmp_path, prepare=partial(mark, marker)) as (training,):
            if to_do[0] is not None and kill_in(to_do[0], training, marker, runs[-1], chance):
                killed[to_do.pop(0)] += 1
                continue
            assert training.end() == 0, training.printed
        assert result(runs[-1]) == expected
        if to_do[0] is None:
            break
        runs.append(runs[-1].with_name(f"run-{len(runs)}"))  # it was too fast for what is to do: once more
    assert killed == KILLS
    # Beginning again would come to the same end.
    assert "passed over" not in training.printed
    assert not list(runs[-1].glob("*.part"))


def test_what_is_kept_in_a_checkpoint_is_not_written_into_by_a_training_that_goes_on(tmp_path: Path) -> None:
    """A file and its copy may be one on the disk, and rename(2) does nothing between two names of one file."""
    kept, model = tmp_path / "kept.json", tmp_path / "model.json"
    write_atomically(model, b"of then")
    link_or_copy(model, kept)
    link_or_copy(kept, model)
    assert {path.name for path in tmp_path.iterdir()} == {"kept.json", "model.json"}
    model.with_name("model.json.part").hardlink_to(kept)  # as a killed process may leave it
    write_atomically(model, b"of now")
    assert (kept.read_bytes(), model.read_bytes()) == (b"of then", b"of now")


def test_a_file_that_another_process_is_writing_is_not_touched_and_what_a_dead_one_left_is_removed(
    tmp_path: Path,
) -> None:
    living, dead = (tmp_path / f"report.html.{platform.node()}-{pid}.part" for pid in (os.getppid(), 2**22 + 1))
    living.write_text("half")
    dead.write_text("half")
    write_atomically(tmp_path / "report.html", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", living.name}


def test_after_damaged_checkpoints_new_ones_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Accelerator(cpu=True), nn.Linear(2, 2), tmp_path, kept=2)
    for epoch in (3, 4):
        checkpoints.save(TrainingProgress(0, epoch))
        (tmp_path / "checkpoints" / f"stage-00-epoch-000{epoch}-step-000000" / "checkpoint.json").unlink()
    assert checkpoints.find() is None
    checkpoints.save(TrainingProgress(0, 0, 2))
    found = checkpoints.find()
    assert found and found.progress == TrainingProgress(0, 0, 2)
