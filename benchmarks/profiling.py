"""Each method's step taken apart: its first one and its usual one, waiting, forward, backward, optimizer, operators."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity
from torch.profiler import profile as recording

from benchmarks.on_device import device_name, forget, wait
from benchmarks.recipes import on_photographs, recipes_measured
from benchmarks.training import TimedTrainer, start_kind, start_trainer
from xmr_e2e.console import console
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.config import Data
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.experiment import Experiment

TOP = 3
"""operators that are named"""
RECORDED = 3
"""steps of which each part is measured, after as many others, and steps whose operators are recorded"""


@dataclass(frozen=True)
class Profile:
    """A method's first stage that learns by gradients."""

    batch_s: float
    """from the start of the epoch to the first batch"""
    first_s: float
    """the first step, from its batch's arrival to its end"""
    step_s: float
    """the median of the second half of the steps, with their waiting"""
    waiting: float
    """share of the steps after the first that waited for data"""
    forward_s: float
    backward_s: float
    optimizer_s: float
    """each of a bare step on a batch that is there"""
    operators: tuple[tuple[str, float], ...]
    """the ones that take longest, with their share of a bare step's time"""


class _Watched(TimedTrainer):
    """A trainer that notes when the batch of each of its steps is asked for and arrives."""

    asked: list[float]
    arrived: list[float]

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        self.asked.append(time.perf_counter())
        batch = super()._next(batches)
        self.arrived.append(time.perf_counter())
        return batch


def profile(
    photographs: Path,
    /,
    *,
    steps: int = 10,
    only: tuple[str, ...] = (),
    batch_size: int | None = None,
    data: Data | None = None,
) -> Table:
    """Train each method's recipe on Flickr8k for a few steps, and show where their time goes.

    Args:
        photographs: a folder of JPEG files
        steps: of each training
        only: recipes, such as semantic_sharing_flickr8k; all of them by default
        batch_size: of the steps; each recipe's own by default
        data: of the recipes, in place of their own but for the shards
    """
    unknown = [name for name in only if name not in recipes_measured()]
    if unknown:
        raise XmrError(f"--only {unknown[0]}: no such recipe; there are {', '.join(recipes_measured())}")
    table = Table(
        "recipe", "to the first batch", "first step", "a step", "waiting", "forward", "backward", "optimizer",
        "operators", title=f"seconds, {device_name()}, torch {torch.__version__}",
    )  # fmt: skip
    for name in only or recipes_measured():
        cells = _cells(profile_of(on_photographs(name, photographs, steps, batch_size=batch_size, data=data)))
        console.print(name, *cells, highlight=False)
        table.add_row(name.removesuffix("_flickr8k"), *cells)
        forget()
    console.print(table)
    return table


def profile_of(experiment: Experiment) -> Profile:
    """The profile of a recipe's training, and then of its bare step."""
    trainer = start_kind(_Watched, experiment)
    trainer.asked, trainer.arrived = [], []
    trainer.fit()
    ends, count = trainer.ends, trainer.loaders[0].steps
    asked, arrived = trainer.asked[:count], trainer.arrived[:count]
    waited = sum(b - a for a, b in zip(asked[1:], arrived[1:]))
    return Profile(
        arrived[0] - asked[0],
        ends[0] - arrived[0],
        statistics.median([b - a for a, b in pairwise(ends[:count])][count // 2 - 1 :]),
        waited / (ends[count - 1] - ends[0]),
        *_parts(experiment),
    )


def _parts(experiment: Experiment) -> tuple[float, float, float, tuple[tuple[str, float], ...]]:
    """Seconds of forward, backward and optimizer, and the operators that take longest."""
    trainer = start_trainer(experiment)
    device, method = trainer.accelerator.device, trainer.method.train()
    stage = next(stage for stage in method.training_stages if not stage.closed_form)
    method.begin_stage(stage)
    method.set_trained(stage, trainer.trainable)
    batch = next(trainer.data.loader(stage, "train").epoch()).to(device).augmented()
    optimizer = experiment.optimizer.build(method, stage.name)
    losses: list[torch.Tensor] = []

    def forward() -> None:
        optimizer.zero_grad()
        with trainer.accelerator.autocast():
            losses.append(method(batch, StepContext(stage.name))["total"])

    parts = (forward, lambda: losses.pop().backward(), optimizer.step)
    taken = [[_seconds(part) for part in parts] for _ in range(2 * RECORDED)]
    ahead, back, move = (statistics.median(times) for times in zip(*taken[RECORDED:]))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with recording(activities=activities) as recorded:
        for _ in range(RECORDED):
            for part in parts:
                part()
        wait()
    own = {event.key: _own_time(event, device.type) for event in recorded.key_averages()}
    total = sum(own.values())
    longest = sorted(own, key=lambda name: own[name], reverse=True)[:TOP]
    return ahead, back, move, tuple((name, own[name] / max(total, 1e-9)) for name in longest)


def _own_time(event: object, device: str) -> float:
    """Microseconds of an operator without those that it calls."""
    return float(getattr(event, "self_device_time_total" if device == "cuda" else "self_cpu_time_total"))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def _cells(found: Profile) -> list[str]:
    seconds = (found.batch_s, found.first_s, found.step_s)
    parts = (found.forward_s, found.backward_s, found.optimizer_s)
    named = ", ".join(f"{name.removeprefix('aten::')} {share:.0%}" for name, share in found.operators)
    return [*(f"{each:.3f}" for each in seconds), f"{found.waiting:.0%}", *(f"{each:.3f}" for each in parts), named]
