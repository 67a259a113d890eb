"""Two things measured in turn, and their ratio: machines are noisy, and what both suffer cancels."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.table import Table

from xmr_e2e.console import console
from xmr_e2e.files import write_atomically

BUILD = Path("build/benchmarks")
"""The output of benchmarks: a JSON line of each figure, and the shards and runs that they read."""
REPEATS = 5
CORES = 2
"""The number of cores that measurements run on, but for those that say that they run on one"""


@dataclass(frozen=True)
class Goal:
    """The bound that a ratio must reach."""

    bound: Literal["at least", "at most"]
    value: float

    def is_met_by(self, ratio: float) -> bool:
        return ratio >= self.value if self.bound == "at least" else ratio <= self.value

    def __str__(self) -> str:
        return f"{self.bound} {self.value:g}"


@dataclass(frozen=True)
class Quantity:
    """One of the two things that are compared."""

    what: str
    unit: str

    def show(self, values: Sequence[float]) -> str:
        return f"{self.what}: {statistics.median(values):.4g} {self.unit}"


@dataclass(frozen=True)
class Side(Quantity):
    """A quantity and its measurement."""

    measure: Callable[[], float]


@dataclass(frozen=True)
class Figure:
    """A ratio that was measured."""

    name: str
    ratio: float
    """the median of `ratios`"""
    ratios: tuple[float, ...]
    """one of each pair of measurements"""
    goal: str
    is_met: bool
    numerator: str
    """the quantity that was measured, with its median"""
    denominator: str
    machine: str
    notes: tuple[str, ...] = ()

    def note(self, text: str) -> Figure:
        """With a remark."""
        return replace(self, notes=(*self.notes, text))


def compare(
    name: str, goal: Goal, above: Side, below: Side, *, repeats: int, slices: int = 1, warm: bool = True
) -> Figure:
    """Measure both in turn, A B A B …, and take the median of the ratios pair by pair.

    Args:
        slices: of a measurement, whose median it is: short ones in turn, where a machine's speed changes by the second.
        warm: measure each once before, uncounted.
    """
    if warm:
        above.measure()
        below.measure()
    pairs = []
    for _ in range(repeats):
        gc.collect()
        parts = [(above.measure(), below.measure()) for _ in range(slices)]
        pairs.append((statistics.median(a for a, _ in parts), statistics.median(b for _, b in parts)))
    return metric_of(name, goal, above, below, pairs)


def metric_of(name: str, goal: Goal, above: Quantity, below: Quantity, pairs: Sequence[tuple[float, float]]) -> Figure:
    """The figure of pairs of measurements."""
    ratios = tuple(a / b for a, b in pairs)
    ratio = statistics.median(ratios)
    shown = above.show([a for a, _ in pairs]), below.show([b for _, b in pairs])
    return Figure(name, ratio, ratios, str(goal), goal.is_met_by(ratio), *shown, machine())


def seconds(work: Callable[[], object]) -> float:
    """The duration of the work, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """With this process, and those that it starts meanwhile, on so many cores, and as many threads of torch."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, set(sorted(before)[:count]))
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)


def memory_mb(process: int | str, which: str) -> float:
    """Of a process's memory, in 10^6 bytes, what Linux calls so: VmHWM is its peak."""
    lines = [line for line in _lines(Path(f"/proc/{process}/status")) if line.startswith(f"{which}:")]
    return int(lines[0].split()[1]) * 1024 / 1e6


def machine() -> str:
    """The hardware of the measurement."""
    cores = f"{CORES} cores of {_processor()}"
    return f"{torch.cuda.get_device_name()}, {cores}" if torch.cuda.is_available() else cores


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def record(figure: Figure) -> None:
    """Show a figure, and keep it as a JSON line in place of an earlier one of its name."""
    line = json.dumps(asdict(figure), ensure_ascii=False)
    others = [json.dumps(asdict(other), ensure_ascii=False) for other in recorded() if other.name != figure.name]
    BUILD.mkdir(parents=True, exist_ok=True)
    write_atomically(BUILD / "figures.jsonl", "".join(f"{item}\n" for item in [*others, line]).encode())
    console.print(_table(figure))
    for note in figure.notes:
        console.print(note)
    print(line, flush=True)  # noqa: T201 -- for programs, as one line however wide the terminal


def recorded() -> list[Figure]:
    """The figures that were measured."""
    documents = [json.loads(line) for line in _lines(BUILD / "figures.jsonl")]
    return [
        Figure(**{**document, "ratios": tuple(document["ratios"]), "notes": tuple(document["notes"])})
        for document in documents
    ]


def _table(figure: Figure) -> Table:
    rows = Table("name", "ratio", "must be", "measured", "against", "each")
    each = " ".join(f"{value:.3g}" for value in figure.ratios)
    verdict = figure.goal if figure.is_met else f"{figure.goal}: NOT REACHED"
    rows.add_row(figure.name, f"{figure.ratio:.3g}", verdict, figure.numerator, figure.denominator, each)
    return rows
