"""All that a GPU is measured by, in one command of a few minutes: ceilings of bare networks, the trainer beside them,
the loader, each method's step, and evaluation."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from rich.table import Table
from torch import nn
from torchvision import models

from benchmarks.evaluation_100k import random_sides
from benchmarks.measure import BUILD, seconds
from benchmarks.on_device import device, device_name, forget, wait
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.reading import rate_of_batches
from benchmarks.recipes import on_photographs, recipes_measured
from benchmarks.resuming import resume_rows
from benchmarks.rows import Row
from benchmarks.training import bare_step, start_trainer
from xmr_e2e.console import console
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.metrics import mean_average_precision
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

Precision: TypeAlias = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
LABELS = 10
WARM = 3
"""steps before those that are measured"""
LONGEST_REASON = 60
"""in characters, of why a row was left out"""


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured."""

    side: int = 224
    batches: tuple[int, int] = (128, 512)
    """of vgg19 and of alexnet"""
    steps: int = 20
    items: tuple[int, ...] = (20_000, 100_000)
    """of the galleries that are ranked"""
    compiled: bool = True
    """whether networks through torch.compile are measured, which takes a minute for each"""
    data: Data | None = None
    """of the recipes, in place of their own but for the shards"""


NETWORKS = ("vgg19", "alexnet")


@dataclass(frozen=True)
class Measurement:
    """One or two rows."""

    what: str
    kind: str
    """all of a kind take about as long"""
    expected_s: float
    """on one of today's cards"""
    rows: Callable[[], Sequence[Row]]


def gpu(photographs: Path, /, *, minutes: float = 6.0, sizes: Sizes = Sizes(), cpu: bool = False) -> Table:
    """Measure on the GPU, and end in a table. What a machine lacks is left out with its reason, as is what the time is
    too short for.

    Args:
        photographs: a folder of JPEG files
        minutes: after which all ends
        sizes: of pictures, batches and galleries
        cpu: measure on the CPU where there is no GPU, for trial with small sizes
    """
    if not torch.cuda.is_available() and not cpu:
        raise XmrError(
            "no GPU is found here (torch.cuda.is_available() is false), and this measures one; --cpu tries it without, "
            "which is slow but with small sizes"
        )
    ends = time.monotonic() + 60 * minutes
    table = Table(title=f"{device_name()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}")
    for name in ("measured", "value", "beside"):
        table.add_column(name, no_wrap=True)  # what does not fit was said in full before
    took: dict[str, float] = {}
    for measurement in _all(photographs, sizes):
        began = time.monotonic()
        for row in _rows(measurement, ends - began, took.get(measurement.kind, 0.0)):
            console.print(f"{row.what}: {row.value} {row.ratio}", highlight=False)
            table.add_row(row.what, row.value, row.ratio)
        forget()
        took[measurement.kind] = max(took.get(measurement.kind, 0.0), time.monotonic() - began)
    console.print(table)
    return table


def _all(photographs: Path, sizes: Sizes) -> Iterator[Measurement]:
    """The measurements, the most wanted first."""
    networks = [*zip(NETWORKS, sizes.batches)]
    for network, batch in networks:
        rows = partial(trainer_rows, photographs, network, batch, sizes)
        yield Measurement(f"{network}, trainer", "trainer", 20, rows)
    yield Measurement("loader", "loader", 20, partial(loader_rows, photographs, sizes))
    for (network, batch), precision in product(networks, PRECISIONS):
        rows = partial(bare_rows, network, batch, sizes, precision)
        yield Measurement(f"{network}, {precision}, bare", "bare", 5, rows)
    for items in sizes.items:
        yield Measurement(f"mAP@all, {items:,} x {items:,}", "evaluation", 4, partial(evaluation_rows, items))
    yield Measurement("checkpoint, recurrent text", "resume", 15, partial(resume_rows, photographs, sizes.data))
    for name in recipes_measured():
        yield Measurement(name, "method", 8, partial(method_rows, photographs, name, sizes))
    for network, batch in networks if sizes.compiled else ():
        rows = partial(compiled_rows, photographs, network, batch, sizes)
        yield Measurement(f"{network}, compiled", "compiled", 80, rows)


def _rows(measurement: Measurement, left_s: float, longest_s: float) -> Sequence[Row]:
    """The rows, or one that says why there are none.

    longest_s: of the measurements of its kind until now.
    """
    if left_s < max(measurement.expected_s, longest_s):
        return [Row(measurement.what, f"not measured: {max(0.0, left_s):.0f} s are left, too few")]
    try:
        return measurement.rows()
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return [Row(measurement.what, f"not measured: {reason[:LONGEST_REASON]}")]


# ---- what is measured


def bare_rows(network: str, batch: int, sizes: Sizes, precision: Precision) -> list[Row]:
    """A network that learns from one batch, which lies on the device, in both layouts."""
    rates = []
    for channels_last in (False, True):
        rates.append(bare_rate(network, batch, sizes, precision, channels_last=channels_last))
        forget()
    return [Row(f"{network}, {precision}, bare", f"{rates[0]:,.0f} img/s", f"channels_last {rates[1]:,.0f} img/s")]


def bare_rate(
    network: str, batch: int, sizes: Sizes, precision: Precision, *, channels_last: bool, compiled: bool = False
) -> float:
    """Images per second."""
    layout: Any = torch.channels_last if channels_last else torch.contiguous_format
    model = models.get_model(network, num_classes=LABELS).to(device(), memory_format=layout).train()
    images = torch.randn(batch, 3, sizes.side, sizes.side, device=device()).to(memory_format=layout)
    labels = torch.arange(batch, device=device()) % LABELS
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)
    forward: Callable[..., Any] = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device().type, torch.bfloat16, enabled=precision == "bf16"):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()

    return batch / _seconds_per_step(step, sizes.steps)


def trainer_rows(photographs: Path, network: str, batch: int, sizes: Sizes) -> list[Row]:
    """An epoch from shards, decoding and all, beside the step of the same method on a batch that is there."""
    trained, bare = _both(_training(photographs, network, batch, sizes), sizes)
    name, waiting = f"{network}, bf16", max(0.0, 1 - bare / trained)
    return [
        Row(f"{name}, trainer, decodes on CPU", f"{batch / trained:,.0f} img/s", f"{trained / bare:.2f} x bare step"),
        Row(f"{name}, its method's bare step", f"{batch / bare:,.0f} img/s", f"the device waits {waiting:.0%}"),
    ]


def compiled_rows(photographs: Path, network: str, batch: int, sizes: Sizes) -> list[Row]:
    """A compiled network bare, and an epoch of it from shards, decoded on the device: what of the card it has."""
    bare = bare_rate(network, batch, sizes, "bf16", channels_last=True, compiled=True)
    forget()
    whole, cores = _training(photographs, network, batch, sizes), len(os.sched_getaffinity(0))
    train = replace(whole.train, compile=True, memory_format="channels_last")
    data = replace(whole.data, decode="device", workers=cores)
    trained = batch / _seconds_per_trained_step(replace(whole, data=data, train=train))
    name = f"{network}, bf16, compiled"
    return [
        Row(f"{name}, bare", f"{bare:,.0f} img/s", "channels_last"),
        Row(f"{name}, trainer, decodes there", f"{trained:,.0f} img/s", f"{trained / bare:.2f} x bare"),
    ]


def _training(photographs: Path, network: str, batch: int, sizes: Sizes) -> Experiment:
    shards = shards_of(list_photographs(photographs), batch * sizes.steps)
    data = Data(shards, image_size=sizes.side, load_size=sizes.side * 8 // 7, words=WordVectors(dim=50))
    method = Dscmr(image=ImageTower(network, weights="none"), text=TextCnn())
    train = Train(epochs=2, batch_size=batch, runs=BUILD / "runs", select="last", precision="bf16", report=False)
    return Experiment("gpu", data, method, Optimizer(kind="sgd", lr=1e-4), train=train)


def loader_rows(photographs: Path, sizes: Sizes) -> list[Row]:
    """Images per second of the loader alone, with a process for each core: decoded there, and on the device."""
    cores = len(os.sched_getaffinity(0))
    shards = shards_of(list_photographs(photographs), sizes.batches[0] * sizes.steps)
    here, there = (_loading_rate(shards, cores, sizes, decode) for decode in ("cpu", "device"))
    return [
        Row("loader, decodes on the CPU", f"{here:,.0f} img/s", f"{cores} processes"),
        Row("loader, decodes on the device", f"{there:,.0f} img/s", f"{there / here:.2f} x on the CPU"),
    ]


def _loading_rate(shards: Path, workers: int, sizes: Sizes, decode: Any) -> float:
    data = Data(shards, image_size=sizes.side, load_size=sizes.side, workers=workers, decode=decode)
    samples = BatchDataset(data, "train", {"image": "pixels"}, None, seed=0, is_training=True)

    def images() -> Iterator[torch.Tensor]:
        for batch in Loader(samples, sizes.batches[0], device=device()).epoch():
            yield batch.to(device()).inputs["image"]
            wait()

    return rate_of_batches(images())


def method_rows(photographs: Path, recipe: str, sizes: Sizes) -> list[Row]:
    """A recipe's step in a training beside its bare step."""
    trained, bare = _both(on_photographs(recipe, photographs, sizes.steps, epochs=2, data=sizes.data), sizes)
    return [Row(recipe, f"{1000 * trained:,.1f} ms a step", f"{trained / bare:.2f} x bare step")]


def evaluation_rows(items: int) -> list[Row]:
    """Seconds of mAP@all of images to texts."""
    sides, labels = random_sides(items, device=str(device()))
    took = seconds(lambda: mean_average_precision(sides["image"], sides["text"], labels, labels))
    return [Row(f"mAP@all, {items:,} x {items:,}", f"{took:.2f} s")]


def _both(experiment: Experiment, sizes: Sizes) -> tuple[float, float]:
    """Seconds per step of the training's first stage in its second epoch, and of its bare step."""
    step = bare_step(start_trainer(experiment), experiment)
    bare = _seconds_per_step(step, sizes.steps)
    return _seconds_per_trained_step(experiment), bare


def _seconds_per_trained_step(experiment: Experiment) -> float:
    trainer = start_trainer(experiment)
    trainer.waits = False  # the host runs ahead of the device, as it does in trainings
    trainer.fit()
    first = trainer.loaders[0].steps
    ends = trainer.ends[first : 2 * first]
    return statistics.median(b - a for a, b in pairwise(ends))


def _seconds_per_step(step: Callable[[], None], steps: int) -> float:
    for _ in range(WARM):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - start) / steps
