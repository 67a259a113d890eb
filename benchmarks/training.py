"""The trainer's overhead on the networks' own work: on one process, on two, in pieces, and at a checkpoint."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Quantity, Side, compare, metric_of, seconds
from benchmarks.on_device import wait
from benchmarks.photographs import list_photographs, shards_of
from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.gradcache import backward
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

Timed = TypeVar("Timed", bound="TimedTrainer")
PIECES = 8
CHECKPOINT_MINUTES = 10


class TimedTrainer(Trainer):
    """A trainer that notes when each of its steps ends, and how long it saves."""

    ends: list[float]
    saves: list[float]
    waits = True
    """for the device, at the end of each step"""

    def __init__(self, experiment: Experiment, run: Run, accelerator: Accelerator) -> None:
        super().__init__(experiment, run, accelerator)
        self.ends, self.saves = [], []

    def _step(self, *args: object) -> None:
        super()._step(*args)  # type: ignore[arg-type]
        if self.waits:
            wait()
        self.ends.append(time.perf_counter())

    def _save(self, progress: TrainingProgress) -> None:
        duration = seconds(lambda: super(TimedTrainer, self)._save(progress))
        if progress.epoch == 1:
            self.saves.append(duration)


def step(
    photographs: Path, /, *, repeats: int = REPEATS, network: str = "vgg19", batch_size: int = 8, steps: int = 4
) -> Figure:
    """A step of a training, decoding and all, against forward, backward and optimiser on a batch that is there.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        network: torchvision's name of the image network
        batch_size: pictures of a step
        steps: of each measurement
    """
    experiment = _experiment(photographs, network, batch_size, steps)
    trainer = start_trainer(experiment)
    bare = bare_step(trainer, experiment)

    def bare_steps() -> float:
        return statistics.median(seconds(bare) for _ in range(steps))

    return compare(
        "step",
        Goal("at most", 1.03),
        Side(f"the trainer, {network}, batches of {batch_size}", "s per step", lambda: _seconds_per_step(experiment)),
        Side("bare forward, backward, optimiser", "s per step", bare_steps),
        repeats=repeats,
        warm=False,  # each measurement is the median of its own steps
    )


def accelerate(
    photographs: Path, /, *, repeats: int = REPEATS, network: str = "alexnet", batch_size: int = 32, steps: int = 8
) -> Figure:
    """A step of a training on two processes, against a hand-written loop with DistributedDataParallel and its loader.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        network: torchvision's name of the image network
        batch_size: pictures of a step, over both processes
        steps: of each measurement
    """
    out = BUILD / "two-processes.json"
    out.unlink(missing_ok=True)
    shards_of(list_photographs(photographs), batch_size * steps)  # before two processes do
    arguments = [str(photographs), network, str(batch_size), str(steps), str(repeats), str(out)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, "-m", "benchmarks.two_processes", *arguments], env=_one_thread_each())
    if done.returncode or not out.exists():
        raise XmrError(f"the two processes ended with status {done.returncode}")
    return metric_of(
        "accelerate",
        Goal("at most", 1.03),
        Quantity(f"the trainer, 2 processes, {network}, batches of {batch_size}", "s per step"),
        Quantity("hand-written DistributedDataParallel", "s per step"),
        [(above, below) for above, below in json.loads(out.read_bytes())],
    )


def in_two_processes(photographs: Path, network: str, batch_size: int, steps: int, repeats: int, out: Path) -> None:
    """The work of each of the two processes: both ways in turn."""
    experiment = _experiment(photographs, network, batch_size, steps)
    pairs = [(_seconds_per_step(experiment), _by_hand(experiment)) for _ in range(repeats + 1)]
    if dist.get_rank() == 0:
        out.write_text(json.dumps(pairs[1:]))  # the first has warmed up
    dist.destroy_process_group()


def _by_hand(experiment: Experiment) -> float:
    """Seconds per step of the loop that one would write without this project's trainer."""
    trainer = start_trainer(experiment)
    model = DistributedDataParallel(trainer.method)
    optimizer = experiment.optimizer.build(trainer.method, trainer.method.stages[0].name)
    ends = []
    for batch in trainer.loaders[0].epoch():
        optimizer.zero_grad()
        model(batch.augmented(), StepContext())["total"].backward()
        optimizer.step()
        ends.append(time.perf_counter())
    return _between(ends)


def micro_batches(
    photographs: Path, /, *, repeats: int = REPEATS, network: str = "vgg19", batch_size: int = 32
) -> Figure:
    """Losses and gradients of a batch in eight pieces with cached representations, against all at once.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        network: torchvision's name of the image network
        batch_size: pictures of all pieces together
    """
    experiment = _experiment(photographs, network, batch_size, 1)
    trainer = start_trainer(experiment)
    (batch,) = trainer.loaders[0].epoch()
    batch = batch.to(trainer.accelerator.device)
    model = trainer.accelerator.prepare_model(trainer.method.train())

    def run(micro_batches: int) -> float:
        def once() -> None:
            backward(
                trainer.accelerator, model, batch,
                micro_batches=micro_batches, context=StepContext(), seed=(0,),
            )  # fmt: skip
            model.zero_grad()
            wait()

        return seconds(once)

    return compare(
        "micro_batches",
        Goal("at most", 1.45),
        Side(f"{PIECES} pieces of {batch_size // PIECES}, {network}", "s", lambda: run(PIECES)),
        Side(f"forward and backward of all {batch_size}", "s", lambda: run(1)),
        repeats=repeats,
        warm=False,
    )


def checkpoint(photographs: Path, /, *, repeats: int = REPEATS, network: str = "vgg19") -> Figure:
    """The time that a training stands still for a checkpoint, as a share of ten minutes.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        network: torchvision's name of the image network
    """
    experiment = _experiment(photographs, network, 2, repeats)
    # The second epoch counts: the optimiser has its moments then, and there is a model that was kept.
    train = replace(experiment.train, epochs=2, checkpoint_steps=1)
    trainer = start_trainer(replace(experiment, optimizer=Optimizer(kind="adamw"), train=train))
    trainer.fit()
    goal = Goal("at most", 0.01)
    share = Quantity(f"a checkpoint of {network} and Adam's moments", "s")
    minutes = Quantity(f"{CHECKPOINT_MINUTES} minutes of training", "s")
    return metric_of(
        "checkpoint", goal, share, minutes, [(s, 60.0 * CHECKPOINT_MINUTES) for s in trainer.saves[:repeats]]
    )


def _experiment(photographs: Path, network: str, batch_size: int, steps: int) -> Experiment:
    shards = shards_of(list_photographs(photographs), batch_size * steps)
    return Experiment(
        name="benchmark",
        data=Data(shards, image_size=224, load_size=256, words=WordVectors(dim=50)),
        method=Dscmr(image=ImageTower(network, weights="none"), text=TextCnn()),
        optimizer=Optimizer(kind="sgd", lr=1e-4),
        train=Train(epochs=1, batch_size=batch_size, runs=BUILD / "runs", select="last"),
    )


def start_trainer(experiment: Experiment) -> TimedTrainer:
    """A trainer at the start of a new run."""
    return start_kind(TimedTrainer, experiment)


def start_kind(kind: type[Timed], experiment: Experiment) -> Timed:
    """A trainer of this kind at the start of a new run."""
    accelerator = make_accelerator(experiment.train)
    run = Run(experiment.train.runs / experiment.name)
    if accelerator.is_main_process:
        shutil.rmtree(run.folder, ignore_errors=True)
        run.start(experiment, environment(experiment, accelerator.num_processes))
    accelerator.wait_for_everyone()
    return kind(experiment, run, accelerator)


def _seconds_per_step(experiment: Experiment) -> float:
    """Of a training from its first step to its last."""
    trainer = start_trainer(experiment)
    trainer.fit()
    return _between(trainer.ends)


def _between(ends: list[float]) -> float:
    return statistics.median(b - a for a, b in itertools.pairwise(ends))


def bare_step(trainer: Trainer, experiment: Experiment) -> Callable[[], None]:
    """Forward, backward and optimiser on one batch that lies ready; its losses are read, as any training's."""
    device, method = trainer.accelerator.device, trainer.method.train()
    batch = next(trainer.loaders[0].epoch()).to(device).augmented()
    optimizer = experiment.optimizer.build(method, method.stages[0].name)

    def once() -> None:
        optimizer.zero_grad()
        with trainer.accelerator.autocast():
            loss = method(batch, StepContext())["total"]
        loss.backward()
        optimizer.step()
        wait()

    return once


def _one_thread_each() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
