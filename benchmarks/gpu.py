"""All that a GPU is measured by, in one command of a few minutes: ceilings of bare networks, the trainer beside them,
the loader, each method's step, and evaluation."""

from __future__ import annotations

import gc
import importlib
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
from accelerate.state import AcceleratorState
from rich.table import Table
from torch import nn
from torchvision import models

from benchmarks.evaluation_100k import random_sides
from benchmarks.measure import BUILD, seconds
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.reading import rate_of_batches
from benchmarks.training import bare_step, start_trainer
from xmr_e2e.console import console
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.evaluation.metrics import mean_average_precision
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

Precision: TypeAlias = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
ROOT = Path(__file__).parents[1]
LABELS = 10
WARM = 3
"""steps before those that are measured"""
LONGEST_REASON = 60
"""in characters, of why a row was left out"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    ratio: str = ""
    """and beside what"""


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


def gpu(photographs: Path, /, *, minutes: float = 6.0, sizes: Sizes = Sizes()) -> Table:
    """Measure on the GPU, or without one on the CPU, and end in a table. What a machine lacks is left out, with its
    reason, and so is what the time is too short for.

    Args:
        photographs: a folder of JPEG files
        minutes: after which nothing more is begun
        sizes: of pictures, batches and galleries
    """
    ends = time.monotonic() + 60 * minutes
    table = Table("measured", "value", "ratio", title=f"{_device_name()}, {len(os.sched_getaffinity(0))} cores, "
                  f"torch {torch.__version__}")  # fmt: skip
    for what, measure in _all(photographs, sizes):
        for row in _rows(what, measure, ends):
            console.print(f"{row.what}: {row.value} {row.ratio}", highlight=False)
            table.add_row(row.what, row.value, row.ratio)
        _forget()
    console.print(table)
    return table


def _all(photographs: Path, sizes: Sizes) -> Iterator[tuple[str, Callable[[], Sequence[Row]]]]:
    """The measurements, the most wanted first."""
    networks = [*zip(NETWORKS, sizes.batches)]
    for network, batch in networks:
        yield f"{network}, trainer", partial(trainer_rows, photographs, network, batch, sizes)
    yield "loader", partial(loader_rows, photographs, sizes)
    for (network, batch), precision, layout in product(networks, PRECISIONS, ("contiguous", "channels_last")):
        what = f"{network}, {precision}, {layout}"
        yield what, partial(bare_rows, what, network, batch, sizes, precision, channels_last=layout == "channels_last")
    for items in sizes.items:
        yield f"mAP@all, {items:,} x {items:,}", partial(evaluation_rows, items)
    for name in recipes_measured():
        yield name, partial(method_rows, photographs, name, sizes)
    for network, batch in networks if sizes.compiled else ():
        what = f"{network}, bf16, channels_last, compiled"
        yield what, partial(bare_rows, what, network, batch, sizes, "bf16", channels_last=True, compiled=True)


def recipes_measured() -> list[str]:
    """The recipes on Flickr8k, one for each method."""
    return sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*_flickr8k.py"))


def _rows(what: str, measure: Callable[[], Sequence[Row]], ends: float) -> Sequence[Row]:
    if time.monotonic() > ends:
        return [Row(what, "not measured: the time is over")]
    try:
        return measure()
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return [Row(what, f"not measured: {reason[:LONGEST_REASON]}")]


# ---- what is measured


def bare_rows(
    what: str,
    network: str,
    batch: int,
    sizes: Sizes,
    precision: Precision,
    *,
    channels_last: bool,
    compiled: bool = False,
) -> list[Row]:
    """Images per second of a network that learns from one batch, which lies on the device."""
    layout: Any = torch.channels_last if channels_last else torch.contiguous_format
    model = models.get_model(network, num_classes=LABELS).to(_device(), memory_format=layout).train()
    images = torch.randn(batch, 3, sizes.side, sizes.side, device=_device()).to(memory_format=layout)
    labels = torch.arange(batch, device=_device()) % LABELS
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)
    forward: Callable[..., Any] = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(_device().type, torch.bfloat16, enabled=precision == "bf16"):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()

    return [Row(what, f"{batch / _seconds_per_step(step, sizes.steps):,.0f} img/s")]


def trainer_rows(photographs: Path, network: str, batch: int, sizes: Sizes) -> list[Row]:
    """An epoch from shards, decoding and all, beside the step of the same method on a batch that is there."""
    shards = shards_of(list_photographs(photographs), batch * sizes.steps)
    data = Data(shards, image_size=sizes.side, load_size=sizes.side * 8 // 7, words=WordVectors(dim=50))
    method = Dscmr(image=ImageTower(network, weights="none"), text=TextCnn())
    train = Train(epochs=2, batch_size=batch, runs=BUILD / "runs", select="last", precision="bf16", report=False)
    trained, bare = _both(Experiment("gpu", data, method, Optimizer(kind="sgd", lr=1e-4), train=train), sizes)
    name, wait = f"{network}, bf16", max(0.0, 1 - bare / trained)
    return [
        Row(f"{name}, trainer and decoding", f"{batch / trained:,.0f} img/s", f"{trained / bare:.2f} x bare step"),
        Row(f"{name}, its method's bare step", f"{batch / bare:,.0f} img/s", f"the device waits {wait:.0%}"),
    ]


def loader_rows(photographs: Path, sizes: Sizes) -> list[Row]:
    """Images per second of the loader alone, with a process for each core: decoded there, and on the device."""
    cores = len(os.sched_getaffinity(0))
    shards = shards_of(list_photographs(photographs), sizes.batches[0] * sizes.steps)
    here, there = (_loading_rate(shards, cores, sizes, decode) for decode in ("cpu", "device"))
    return [
        Row("loader, decoding on the CPU", f"{here:,.0f} img/s", f"{cores} processes"),
        Row("loader, decoding on the device", f"{there:,.0f} img/s", f"{there / here:.2f} x on the CPU"),
    ]


def _loading_rate(shards: Path, workers: int, sizes: Sizes, decode: Any) -> float:
    data = Data(shards, image_size=sizes.side, load_size=sizes.side, workers=workers, decode=decode)
    samples = BatchDataset(data, "train", {"image": "pixels"}, None, seed=0, is_training=True)

    def images() -> Iterator[torch.Tensor]:
        for batch in Loader(samples, sizes.batches[0], device=_device()).epoch():
            yield batch.to(_device()).inputs["image"]
            _wait()

    return rate_of_batches(images())


def method_rows(photographs: Path, recipe: str, sizes: Sizes) -> list[Row]:
    """A recipe's step in a training beside its bare step."""
    whole: Experiment = importlib.import_module(f"recipes.{recipe}").experiment()
    shards = shards_of(list_photographs(photographs), whole.train.batch_size * sizes.steps)
    train = replace(whole.train, epochs=2, runs=BUILD / "runs", select="last", report=False)
    data = replace(sizes.data or whole.data, shards=shards)
    trained, bare = _both(replace(whole, data=data, train=train), sizes)
    return [Row(recipe, f"{1000 * trained:,.1f} ms a step", f"{trained / bare:.2f} x bare step")]


def evaluation_rows(items: int) -> list[Row]:
    """Seconds of mAP@all of images to texts."""
    sides, labels = random_sides(items, device=str(_device()))
    took = seconds(lambda: mean_average_precision(sides["image"], sides["text"], labels, labels))
    return [Row(f"mAP@all, {items:,} x {items:,}", f"{took:.2f} s")]


def _both(experiment: Experiment, sizes: Sizes) -> tuple[float, float]:
    """Seconds per step of the training's first stage in its second epoch, and of its bare step."""
    trainer = start_trainer(experiment)
    step = bare_step(trainer, experiment)
    bare = _seconds_per_step(step, sizes.steps)
    trainer = start_trainer(experiment)
    trainer.waits = False  # the host runs ahead of the device, as it does in trainings
    trainer.fit()
    first = trainer.loaders[0].steps
    ends = trainer.ends[first : 2 * first]
    return statistics.median(b - a for a, b in pairwise(ends)), bare


def _seconds_per_step(step: Callable[[], None], steps: int) -> float:
    for _ in range(WARM):
        step()
    _wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait()
    return (time.perf_counter() - start) / steps


# ---- the device


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _forget() -> None:
    """Let go of a row's memory and of Accelerate's state, which refuses the precision of the next."""
    AcceleratorState._reset_state(reset_partial_state=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
