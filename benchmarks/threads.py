"""The threads of a training: those that it gives itself, against one and two that were asked for, on quiet cores and on
busy ones."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Side, compare
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.recipes import ROOT
from xmr_e2e.errors import XmrError

RECIPE = "dscmr_flickr8k"
BATCH, STEPS = 100, 24
RUNS = BUILD / "threads"
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(1_000_000))"
"""a process that is busy for as long as the one that has started it is there"""


def threads(
    photographs: Path, /, *, repeats: int = REPEATS, batch_size: int = BATCH, steps: int = STEPS, recipe: str = RECIPE
) -> Figure:
    """Pictures per second of a training that `accelerate launch` starts, against the better of one and two threads of
    OpenMP's that were asked for, on cores that do nothing else.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        batch_size: pictures of a step
        steps: of each training, of which the second half is measured
        recipe: its name
    """
    return _threads("threads", 0.97, photographs, repeats, (recipe, batch_size, steps), is_busy=False)


def threads_busy(
    photographs: Path, /, *, repeats: int = REPEATS, batch_size: int = BATCH, steps: int = STEPS, recipe: str = RECIPE
) -> Figure:
    """The same beside one busy process for each core.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        batch_size: pictures of a step
        steps: of each training, of which the second half is measured
        recipe: its name
    """
    return _threads("threads_busy", 0.85, photographs, repeats, (recipe, batch_size, steps), is_busy=True)


def _threads(
    name: str, goal: float, photographs: Path, repeats: int, training: tuple[str, int, int], *, is_busy: bool
) -> Figure:
    recipe, batch_size, steps = training
    shards = shards_of(list_photographs(photographs), batch_size * steps)
    state = "beside a busy process for each core" if is_busy else "alone"
    better: list[str] = []

    def rate(asked: str | None) -> float:
        return training_rate(recipe, shards, batch_size, asked)

    def best() -> float:
        found = {asked: rate(asked) for asked in ("1", "2")}
        better.append(max(found, key=lambda asked: found[asked]))
        return max(found.values())

    with busy_cores() if is_busy else nullcontext():
        figure = compare(
            name,
            Goal("at least", goal),
            Side(f"{recipe} as accelerate launch starts it, {state}", "images/s", lambda: rate(None)),
            Side("the better of OMP_NUM_THREADS=1 and 2", "images/s", best),
            repeats=repeats,
            warm=False,  # each is a process of its own, and its first half is not measured
        )
    return figure.note(f"the better number of threads, each time: {' '.join(better)}")


def training_rate(recipe: str, shards: Path, batch_size: int, threads: str | None) -> float:
    """Pictures per second of a recipe's training on the CPU, in the second half of its only epoch.

    Args:
        threads: OMP_NUM_THREADS; None leaves that to `accelerate launch` and the training.
    """
    shutil.rmtree(RUNS, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    words = [*launch, str(ROOT / "recipes" / f"{recipe}.py"), *_options(shards, batch_size)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise XmrError(f"{recipe} ended with status {done.returncode}: {done.stdout[-2000:]}")
    (metrics,) = RUNS.rglob("metrics.jsonl")
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    rates = [record["images_per_second"] for record in records if "images_per_second" in record]
    return statistics.median(rates[len(rates) // 2 :])


def _options(shards: Path, batch_size: int) -> list[str]:
    given = {"data.shards": shards, "train.runs": RUNS, "train.batch-size": batch_size, "train.epochs": 1,
             "train.select": "last"}  # fmt: skip
    return [*(f"--{name}={value}" for name, value in given.items()), "--train.no-report"]


@contextmanager
def busy_cores() -> Iterator[None]:
    """With a busy process for each core that this process may use."""
    started = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
