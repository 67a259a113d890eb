"""From bytes to batches: decoding, streaming, the whole loader, resuming, and a worker's memory."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional as transforms

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Quantity, Side, compare, metric_of, on_cores, seconds
from benchmarks.photographs import list_photographs, shards_of
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.images import load_square
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.shards.index import index_path
from xmr_e2e.shards.manifest import NAME, load_manifest

SIDE = 224
BATCH = 64
SAMPLES = 3000
"""of the shards that are read: a few seconds' work"""
SLICES = 10
SAMPLES_OF_INDEX = 1_000_000
SHARD = 500
SMALL_SIDE = 64
"""of the square in which memory is measured, where pixels do not matter"""
Item = TypeVar("Item")


def transform(photographs: Path, /, *, repeats: int = REPEATS, side: int = SIDE) -> Figure:
    """Decode, resize and crop to uint8, against Pillow and torchvision to a float tensor, on one core.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        side: of the square in pixels
    """
    files = [path.read_bytes() for path in list_photographs(photographs)]
    with on_cores(1):
        figure = compare(
            "transform",
            Goal("at least", 1.6),
            Side("decode, resize, crop to uint8", "images/s", rates(files, lambda data: square(data, side))),
            Side("Pillow and torchvision to float", "images/s", rates(files, lambda data: tensor(data, side))),
            repeats=repeats,
            slices=SLICES,
        )
    worst = min(psnr(square(data, side).permute(1, 2, 0).numpy(), reference(data, side)) for data in files)
    return figure.note(f"worst PSNR against full decoding and antialiased resizing: {worst:.1f} dB (at least 35)")


def loader(photographs: Path, /, *, repeats: int = REPEATS, cores: int = 2) -> Figure:
    """The whole loader, from shards to batches, against as many times one core that only decodes and resizes.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        cores: of this machine, and processes of the loader
    """
    shards = shards_of(list_photographs(photographs), SAMPLES)
    files = image_bytes(shards, SAMPLES)

    def one_core() -> float:
        with on_cores(1):
            return cores * rate(files, lambda data: square(data, SIDE))

    return compare(
        "loader",
        Goal("at least", 0.85),
        Side(f"loader with {cores} processes", "images/s", lambda: rate_of_batches(our_batches(shards, cores))),
        Side(f"{cores} x one core that decodes and resizes", "images/s", one_core),
        repeats=repeats,
    )


def tar(photographs: Path, /, *, repeats: int = REPEATS) -> Figure:
    """Decoding samples as they are read from tars, against decoding the same bytes out of memory, on one core.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
    """
    shards = shards_of(list_photographs(photographs), SAMPLES)
    files, reader = image_bytes(shards, SAMPLES), SplitReader(shards, "train")
    with on_cores(1):
        return compare(
            "tar",
            Goal("at least", 0.95),
            Side("from tars", "images/s", rates(range(SAMPLES), lambda n: square(reader.image(n), SIDE))),
            Side("out of memory", "images/s", rates(files, lambda data: square(data, SIDE))),
            repeats=repeats,
            slices=SLICES,
        )


def resume(photographs: Path, /, *, repeats: int = REPEATS, cores: int = 2) -> Figure:
    """Time to the first batch when an epoch goes on at 90 %, against a cold start.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        cores: processes of the loader
    """
    shards = shards_of(list_photographs(photographs), SAMPLES)
    loading = our_loader(shards, cores)
    late = int(0.9 * loading.steps)

    def first_batch(step: int) -> float:
        return seconds(lambda: next(loading.epoch(first_step=step)))

    return compare(
        "resume",
        Goal("at most", 1.2),
        Side(f"to the first batch from step {late} of {loading.steps}", "s", lambda: first_batch(late)),
        Side("to the first batch from step 0", "s", lambda: first_batch(0)),
        repeats=repeats,
    )


def memory(photographs: Path, /, *, batches: int = 600) -> Figure:
    """Peak resident memory of a loader's worker that reads from a million samples (simulated: one shard, repeated).

    Args:
        photographs: a folder of JPEG files
        batches: of 64 pictures that it loads, so many that all shards it may remember have come by
    """
    data = Data(_million(list_photographs(photographs)), image_size=SMALL_SIDE, load_size=SMALL_SIDE, workers=1)
    samples = BatchDataset(data, "train", {"image": "pixels"}, None, seed=0)
    held = []
    for number, _ in enumerate(Loader(samples, BATCH).epoch(), 1):
        held.append(_worker_memory())
        if number == batches:
            break
    figure = metric_of(
        "memory",
        Goal("at most", 400),
        Quantity(f"a worker's peak over {len(samples):,} samples (simulated)", "MB"),
        Quantity("of", "MB"),
        [(max(held), 1.0)],
    )
    return figure.note(f"resident after the first batch {held[0]:.0f} MB, after {len(held)} batches {held[-1]:.0f} MB")


def our_loader(shards: Path, workers: int) -> Loader:
    data = Data(shards, image_size=SIDE, load_size=SIDE, workers=workers)
    return Loader(BatchDataset(data, "train", {"image": "pixels"}, None, seed=0), BATCH)


def our_batches(shards: Path, workers: int) -> Iterable[torch.Tensor]:
    return (batch.inputs["image"] for batch in our_loader(shards, workers).epoch())


def rate(items: Sequence[Item], work: Callable[[Item], object]) -> float:
    """Items per second."""

    def all_of_them() -> None:
        for item in items:
            work(item)

    return len(items) / seconds(all_of_them)


def rates(items: Sequence[Item], work: Callable[[Item], object]) -> Callable[[], float]:
    """A function that measures the rate of the next tenth of the items each time that it is called."""
    size = max(1, len(items) // SLICES)
    parts = itertools.cycle(items[first : first + size] for first in range(0, len(items), size))
    return lambda: rate(next(parts), work)


def rate_of_batches(batches: Iterable[torch.Tensor]) -> float:
    """Images per second from the first batch's arrival on: how long processes take to start is not measured."""
    arriving = iter(batches)
    next(arriving)
    start, count = time.perf_counter(), 0
    for batch in arriving:
        count += len(batch)
    return count / (time.perf_counter() - start)


def square(data: bytes, side: int) -> torch.Tensor:
    return load_square(data, side, where="photograph")


def tensor(data: bytes, side: int) -> torch.Tensor:
    """As torchvision's classification examples do it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return transforms.to_tensor(transforms.center_crop(transforms.resize(image, [side]), [side]))


def reference(data: bytes, side: int) -> NDArray[np.uint8]:
    """Decoded in full, and the same square resized with antialiasing."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    shorter = min(image.size)
    left, top = (image.width - shorter) // 2, (image.height - shorter) // 2
    box = (left, top, left + shorter, top + shorter)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB; infinite where both are the same."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def image_bytes(shards: Path, count: int) -> list[bytes]:
    reader = SplitReader(shards, "train")
    return [reader.image(number) for number in range(count)]


def _million(photographs: Sequence[Path]) -> Path:
    """A folder of shards of a million samples: one shard of 500 under 2,000 names, each linked to the same bytes."""
    one = shards_of(photographs, SHARD)
    out = BUILD / f"{one.name}-million"
    if (out / NAME).exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    manifest = load_manifest(one)
    (first,) = manifest.splits["train"].shards
    names = [f"train-{number:05d}.tar" for number in range(SAMPLES_OF_INDEX // SHARD)]
    for name in names:
        os.link(one / first.name, out / name)
        os.link(index_path(one / first.name), index_path(out / name))
    split = manifest.splits["train"]
    modalities = {name: SAMPLES_OF_INDEX for name in split.modalities}
    shards = tuple(replace(first, name=name) for name in names)
    whole = replace(manifest, splits={"train": replace(split, shards=shards, modalities=modalities)})
    whole.save(out)
    return out


def _worker_memory() -> float:
    """Resident megabytes of the loader's worker, whose parent is the fork server."""
    children = psutil.Process().children(recursive=True)
    return max(child.memory_info().rss for child in children if child.ppid() != os.getpid()) / 1e6
