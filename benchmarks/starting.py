"""The start of a command: what it imports before it answers, and what passes before a training's first step."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.first_step import BATCH, FIRST_STEP, LOADER, TORCH
from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Side, compare, seconds
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.recipes import ROOT, experiment_of
from xmr_e2e.errors import XmrError

RECIPE = "recipes/dscmr_wikipedia.py"
TRAINED = "dscmr_flickr8k"
STEPS = 4
RUNS = BUILD / "started"


def start(*, repeats: int = REPEATS, recipe: str = RECIPE) -> Figure:
    """The options of a recipe, told by its --help, against the import of torch alone.

    Args:
        repeats: of each measurement
        recipe: its file
    """
    return compare(
        "start",
        Goal("at most", 1.5),
        Side(f"{recipe} --help", "s", lambda: _run(str(ROOT / recipe), "--help")),
        Side("import torch", "s", lambda: _run("-c", "import torch")),
        repeats=repeats,
    )


def first_step(photographs: Path, /, *, repeats: int = REPEATS, recipe: str = TRAINED) -> Figure:
    """A recipe from its start to the end of its first step, against the import of torch and the first batch of a
    loader, one after the other in a process of their own.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        recipe: its name
    """
    shards = shards_of(list_photographs(photographs), STEPS * experiment_of(recipe).train.batch_size)
    options = [f"--data.shards={shards}", f"--train.runs={RUNS}", "--train.select=last", "--train.no-report"]

    def trained() -> float:
        shutil.rmtree(RUNS, ignore_errors=True)
        began, said = _started(["train", str(ROOT / "recipes" / f"{recipe}.py"), *options], FIRST_STEP)
        return said[FIRST_STEP] - began

    def loaded() -> float:
        began, said = _started(["load", recipe, str(shards)], BATCH)
        return said[TORCH] - began + said[BATCH] - said[LOADER]

    return compare(
        "first_step",
        Goal("at most", 2.0),
        Side(f"{recipe} from its start to the end of its first step", "s", trained),
        Side("import torch, and a loader's first batch", "s", loaded),
        repeats=repeats,
    )


def _run(*words: str) -> float:
    """Seconds of a Python of its own, from its start to its end."""
    return seconds(lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL))


def _started(words: Sequence[str], last: str) -> tuple[float, dict[str, float]]:
    """The moment at which benchmarks/first_step.py was started, and those that it said up to the last one, after which
    it is ended with all that it has started."""
    command = [sys.executable, "-m", "benchmarks.first_step", *words]
    said: dict[str, float] = {}
    began = time.monotonic()
    with subprocess.Popen(
        command, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            for line in process.stdout:
                what, _, moment = line.rpartition(" ")
                if what in (FIRST_STEP, TORCH, LOADER, BATCH):
                    said[what] = float(moment)
                if last in said:
                    return began, said
            raise XmrError(f"{' '.join(words[:2])} ended too early: {process.stderr.read()[-2000:]}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
