"""Check that pictures are decoded as fast as the network that trains on them takes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.encoded import can_decode_on_gpu, decodes_later
from xmr_e2e.data.workers import default_workers
from xmr_e2e.devices import uses_gpu
from xmr_e2e.doctor.finding import Finding, counted, note
from xmr_e2e.doctor.memory import Processes
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.runs.experiment import Experiment

SECONDS = 1.0
"""for which pictures are decoded"""
BATCH = 8
"""pictures that are decoded at a time; a network on a CPU takes a quarter of them, and on a GPU four times as many"""
STEPS = 3
"""of a network on a GPU that are measured, behind as many that are not"""


def check_speed(experiment: Experiment, method: Method, processes: Processes) -> Iterator[Finding]:
    """Findings on the pictures per second of the loader's processes and of the image network, where one trains."""
    is_trained = method.input_kinds.get("image") == "pixels" and "image" not in method.frozen
    if not is_trained or decodes_later(experiment.data.decode):
        return
    images = _decoder(experiment)
    decoded, trained = decoding_rate(images), training_rate(experiment, method, images(BATCH))
    workers = experiment.data.workers
    yield compare(decoded, trained, default_workers(processes.local) if workers is None else workers)


def compare(decoded: float, trained: float, workers: int) -> Finding:
    """The finding on pictures per second that a process decodes, that a step takes, and on how many processes decode.

    Without a process of its own (workers 0) the training itself decodes, and waits for it.
    """
    rate = decoded * max(workers, 1)
    share = 1 - rate / trained if workers else trained / (trained + rate)
    by = counted(workers, "loader process") if workers else "the training's own process"
    said = f"{by} would decode {rate:,.0f} pictures/s, and the image network trains on {trained:,.0f}"
    if share <= 0.05:
        return Finding("decoding", said)
    resized = "build shards of smaller pictures (--resize 256)"
    cures = f"--data.decode device, or {resized}" if can_decode_on_gpu() else resized
    return note("decoding", f"{said}: it would wait for {share:.0%} of the time; raise --data.workers where there are "
                f"idle cores, or {cures}")  # fmt: skip


def decoding_rate(images: Callable[[int], Tensor]) -> float:
    """Pictures per second that one process reads, decodes and resizes, once its files are open."""
    images(BATCH)
    begin = time.perf_counter()
    for batches in count(1):
        images(BATCH)
        if (taken := time.perf_counter() - begin) > SECONDS:
            return batches * BATCH / taken
    raise AssertionError("the numbers do not end")


def training_rate(experiment: Experiment, method: Method, pixels: Tensor) -> float:
    """Pictures per second of the image network's forward and backward pass, on the device of the training."""
    device = torch.device("cuda" if uses_gpu() else "cpu")
    tower = deepcopy(method.towers["image"]).to(device).train().requires_grad_(True)
    pixels = (pixels.repeat(4, 1, 1, 1) if device.type == "cuda" else pixels[: BATCH // 4]).to(device)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(experiment.train.precision)

    def step() -> None:
        with torch.autocast(device.type, kind, enabled=kind is not None):
            rows = tower(pixels)
        rows.float().sum().backward()

    return len(pixels) / (_seconds_on_gpu(step) if device.type == "cuda" else _seconds(step))


def _decoder(experiment: Experiment) -> Callable[[int], Tensor]:
    """A function that gives the next pictures of the training split, (n, 3, s, s), as a loader's process makes them."""
    data = replace(experiment.data, decode="cpu")
    batches = BatchDataset(data, "train", {"image": "pixels"}, None, seed=experiment.train.seed, is_training=True)
    places = count()

    def images(number: int) -> Tensor:
        own = np.array([next(places) % len(batches) for _ in range(number)])
        batch = batches[Request(0, batches.at(own))]
        if isinstance(batch, XmrError):
            raise batch
        return batch.augmented().inputs["image"]

    return images


def _seconds(step: Callable[[], None]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def _seconds_on_gpu(step: Callable[[], None]) -> float:
    """Of one step; the first ones choose algorithms."""
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / STEPS
