"""The cost of evaluations to each other: several with their reports on the same cores at once, against one alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Side, compare, seconds
from benchmarks.photographs import list_photographs, shards_of
from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

AT_ONCE = 5
SIDE = 64


def evals(photographs: Path, /, *, repeats: int = REPEATS, samples: int = 500, at_once: int = AT_ONCE) -> Figure:
    """`xmr eval` of one run by several processes at once, against one alone: work is shared, and waiting must not grow.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        samples: pairs that are embedded and measured; 500 make the largest map that reports have
        at_once: processes
    """
    run = _trained(photographs, samples)
    return compare(
        "evals",
        Goal("at most", 1.2 * at_once),
        Side(
            f"{at_once} evaluations at once, {samples} pairs", "s", lambda: seconds(lambda: _evaluate([run] * at_once))
        ),
        Side("one", "s", lambda: seconds(lambda: _evaluate([run]))),
        repeats=repeats,
    )


def _trained(photographs: Path, samples: int) -> Path:
    """A run folder with a small model, hardly trained."""
    experiment = Experiment(
        name="evaluated",
        data=Data(shards_of(list_photographs(photographs), samples), image_size=SIDE, load_size=SIDE,
                  words=WordVectors(dim=8)),
        method=Dscmr(image=ImageTower("squeezenet1_1", weights="none"), text=TextCnn()),
        optimizer=Optimizer(kind="sgd", lr=1e-4),
        train=Train(epochs=1, batch_size=samples // 2, runs=BUILD / "runs", select="last"),
    )  # fmt: skip
    run = Run(experiment.train.runs / experiment.name)
    shutil.rmtree(run.folder, ignore_errors=True)
    run.start(experiment, environment(experiment, 1))
    Trainer(experiment, run, make_accelerator(experiment.train)).fit()
    return run.folder


def _evaluate(runs: Sequence[Path]) -> None:
    """Each in a process of its own, all at once."""
    command = [sys.executable, "-m", "xmr_e2e.cli", "eval", "--split", "train"]
    started = [
        subprocess.Popen([*command, str(run)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for run in runs
    ]
    said = [process.communicate()[0] for process in started]
    for process, words in zip(started, said):
        if process.returncode or "was not drawn" in words:
            raise XmrError(f"`xmr eval` ended with status {process.returncode}: {words}")
