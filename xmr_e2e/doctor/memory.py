"""Check that a training fits into the memory of devices and machine, /dev/shm and the disk. All are estimates."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from xmr_e2e.data.workers import PREFETCHED, SHARED_MEMORY
from xmr_e2e.doctor.dry_run import SAMPLES, DryRun, StageRun
from xmr_e2e.doctor.finding import Finding, counted, in_words, note, problem
from xmr_e2e.doctor.machine import available_memory, existing
from xmr_e2e.methods.base import Method
from xmr_e2e.runs.experiment import Experiment, Optimizer

ROOM = 0.85
"""share of a GPU's memory that an estimate may fill; the rest goes to CUDA, to workspaces and to gaps"""


@dataclass(frozen=True)
class Processes:
    """The processes of the training for which is planned."""

    count: int
    local: int
    """of this machine"""


@dataclass(frozen=True)
class Need:
    """Bytes on the device of each process in one stage."""

    stage: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    batch: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.batch

    def __str__(self) -> str:
        parts = {name: getattr(self, name) for name in ("weights", "gradients", "optimizer", "activations", "batch")}
        return f"{in_words(self.total)} ({', '.join(f'{name} {in_words(size)}' for name, size in parts.items())})"


def weight_bytes(method: Method) -> int:
    """Of parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*method.parameters(), *method.buffers()))


def optimizer_copies(optimizer: Optimizer) -> int:
    """Numbers that it keeps for each parameter that moves."""
    return 2 if optimizer.kind == "adamw" else int(optimizer.momentum > 0)


def need(experiment: Experiment, weights: int, run: StageRun, batch: int, processes: int) -> Need:
    """The memory that a stage takes.

    Args:
        weights: bytes of the method's parameters and buffers.
        batch: samples of its largest global batch.
    """
    train = experiment.train
    samples = math.ceil(batch / processes)
    micro_batch = _largest_piece(experiment, samples)
    # Under autocast the networks' activations have two bytes instead of four, and so has a copy of the weights that
    # is kept with them; the objective runs in fp32.
    half = train.precision != "fp32"
    towers = run.towers.floating * (0.5 if half else 1.0) + run.towers.other
    objective = run.objective.floating + run.objective.other
    shared = [processes if train.zero >= stage else 1 for stage in (1, 2, 3)]  # what DeepSpeed divides among them
    return Need(
        run.stage.name,
        weights // shared[2],
        run.moving // shared[1],
        run.moving * optimizer_copies(experiment.optimizer) // shared[0],
        int(towers * micro_batch + objective * batch) // SAMPLES + half * run.moving // 2,
        (run.raw + run.prepared) * samples // SAMPLES,
    )


def _largest_piece(experiment: Experiment, samples: int) -> int:
    """Samples of the largest micro-batch of a process's part of the batch; within a budget, of the longest texts."""
    train, data, kinds = experiment.train, experiment.data, experiment.method.input_kinds.values()
    bounds = [
        *([train.micro_pixels // data.image_size**2] if train.micro_pixels and "pixels" in kinds else []),
        *([train.micro_tokens // data.max_tokens] if train.micro_tokens and "tokens" in kinds else []),
    ]
    if train.micro_pixels or train.micro_tokens:
        return min([samples, *(max(1, bound) for bound in bounds)])
    return math.ceil(samples / train.micro_batches)


def check_memory(needs: Sequence[Need], processes: Processes) -> Iterator[Finding]:
    """The largest stage, beside the smallest GPU or the machine's memory."""
    largest = max(needs, key=lambda item: item.total)
    name = f", most of all in the stage {largest.stage!r}" if len(needs) > 1 else ""
    text = f"about {largest} for each process{name}"
    if torch.cuda.is_available():
        there = min(torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count()))
        taken, where = largest.total, f"the GPU has {in_words(there)}"
    else:
        there, taken = available_memory(), largest.total * processes.local
        where = f"{in_words(there)} are available for {counted(processes.local, 'process')}"
    advice = (
        "bound it by --train.micro-pixels and --train.micro-tokens (or raise --train.micro-batches), or lower "
        "--train.batch-size or --data.image-size"
    )
    if largest.activations < 0.5 * largest.total:
        advice = "the weights take most of it: see --train.zero, --optimizer.kind sgd, or a smaller network"
    if taken > there:
        yield problem("memory", f"{text}; {where}: {advice}")
    elif taken > ROOM * there:
        yield note("memory", f"{text}; {where}, which may not do: {advice}")
    else:
        yield Finding("memory", f"{text}; {where}")


def check_cached_features(run: DryRun, samples: int, processes: Processes) -> Iterator[Finding]:
    """Check the room for the outputs of frozen towers for all `samples`, kept in the memory of every process."""
    if not run.cached_features:
        return
    total = run.cached_features * samples // SAMPLES * processes.local
    who = counted(processes.local, "process")
    text = f"the frozen towers' outputs for {counted(samples, 'sample')} take {in_words(total)} in {who}"
    available = available_memory()
    if total > available:
        yield problem("frozen", f"{text}; {in_words(available)} are available")
    else:
        yield Finding("frozen", text)


def check_loader(run: DryRun, batch: int, workers: int, processes: Processes) -> Finding:
    """batch: samples of the largest global batch. workers: loader processes of each process."""
    raw = max((stage.raw for stage in run.stages), default=0) * math.ceil(batch / processes.count) // SAMPLES
    if not raw:
        return Finding("loader", "all towers are frozen: nothing is read in training but labels")
    if not workers:
        return Finding("loader", f"batches of {in_words(raw)}, which each process reads itself")
    total = raw * workers * PREFETCHED * processes.local
    text = (
        f"batches of {in_words(raw)} for each process, {counted(workers, 'loader process')} with {PREFETCHED} ready: "
        f"{in_words(total)}"
    )
    places = {"the machine's memory": available_memory()}
    if SHARED_MEMORY.exists():
        places[str(SHARED_MEMORY)] = shutil.disk_usage(SHARED_MEMORY).free
    place, free = min(places.items(), key=lambda item: item[1])
    if total > free:
        return problem("loader", f"{text}; {place} has {in_words(free)}: lower --data.workers or --data.load-size")
    return Finding("loader", f"{text}; {place} has {in_words(free)}")


def check_checkpoints(experiment: Experiment, weights: int, run: DryRun) -> Finding:
    """weights: bytes of the method's parameters and buffers."""
    moving = max((stage.moving for stage in run.stages), default=0)
    one = weights + moving * optimizer_copies(experiment.optimizer)
    kept = experiment.train.checkpoints_kept
    # One more while it is written, and the model that is kept.
    total = one * (kept + 1) + weights
    folder = existing(experiment.train.runs)
    free = shutil.disk_usage(folder).free
    text = (
        f"{counted(kept, 'checkpoint')} of {in_words(one)}, one more while it is saved, and the model: "
        f"{in_words(total)}"
    )
    if total > free:
        return problem("disk", f"{text}; {folder} has {in_words(free)}: choose another --train.runs")
    return Finding("disk", f"{text}; {folder} has {in_words(free)}")
