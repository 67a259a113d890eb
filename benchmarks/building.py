"""The cost of the builders: shards against a plain tar and decoding, and regions against the bare detector."""

from __future__ import annotations

import io
import multiprocessing
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import decoding
from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Side, compare, on_cores, seconds
from benchmarks.photographs import CLASSES, list_photographs, samples_of, shards_of
from benchmarks.reading import rate
from preprocessing.regions import add_regions
from xmr_e2e.files import fsync_file
from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.media import RESIZED_QUALITY
from xmr_e2e.shards.parallel import without_main
from xmr_e2e.towers.detector import load_detector

OUT = BUILD / "built"
RESIZE = 256
REGIONS = 36


def build(photographs: Path, /, *, repeats: int = REPEATS, samples: int = 10_000, cores: int = 2) -> Figure:
    """A build of shards that keeps the original bytes, against a plain tar of the same files and one decoding of each,
    by processes that are there already and have the bytes in memory.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        samples: files, the photographs in turn
        cores: processes that build, and that decode
    """
    found = list_photographs(photographs)
    files, parts = _linked(found, samples), []

    with _decoders(found, cores) as decode:

        def tarred_and_decoded() -> float:
            parts.append((_tar(files), seconds(lambda: decode(samples))))
            return sum(parts[-1])

        figure = compare(
            "build",
            Goal("at most", 1.25),
            Side(f"shards of {samples:,} files, {cores} processes", "s",
                 lambda: _build(files, BuildOptions(workers=cores))),
            Side("tar of the same files, and each decoded once as the build does it", "s", tarred_and_decoded),
            repeats=repeats,
        )  # fmt: skip
    size = sum(file.stat().st_size for file in files) / 1e6
    tar, decoding = (statistics.median(each) for each in zip(*parts))
    return figure.note(f"{size:,.0f} MB; of what it is compared with, tar took {tar:.1f} s, decoding {decoding:.1f} s")


def _tar(files: Sequence[Path]) -> float:
    names = "\n".join(map(str, files)).encode()
    command = ["tar", "--create", "--dereference", f"--file={BUILD / 'plain.tar'}", "--files-from=-"]

    def tar() -> None:
        subprocess.run(command, input=names, check=True)
        fsync_file(BUILD / "plain.tar")  # as the builder leaves its shards

    return seconds(tar)


@contextmanager
def _decoders(photographs: Sequence[Path], processes: int) -> Iterator[Callable[[int], None]]:
    """A function that decodes so many pictures in these processes, each its share of them; they have started, and read
    the photographs."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=decoding.read, initargs=(photographs,)) as pool:

        def decode(count: int) -> None:
            shares = [range(first, count, processes) for first in range(processes)]
            list(pool.map(decoding.decode, shares))

        with without_main():
            decode(processes)
        yield decode


def resized(photographs: Path, /, *, repeats: int = REPEATS, samples: int = 8_000, cores: int = 2) -> Figure:
    """A build of shards with resized pictures, against as many times one core that decodes, resizes and encodes.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        samples: files, the photographs in turn
        cores: processes that build
    """
    found = list_photographs(photographs)
    files, data = _linked(found, samples), [path.read_bytes() for path in found]
    options = BuildOptions(resize=RESIZE, workers=cores)

    def one_core() -> float:
        with on_cores(1):
            return cores * rate(data, _smaller)

    return compare(
        "resized",
        Goal("at least", 0.8),
        Side(f"shards of {samples:,} files, {cores} processes", "images/s", lambda: samples / _build(files, options)),
        Side(f"{cores} x one core that decodes, resizes, encodes", "images/s", one_core),
        repeats=repeats,
        warm=False,  # so long that a start does not show
    )


def regions(photographs: Path, /, *, repeats: int = REPEATS, samples: int = 2, slices: int = 5) -> Figure:
    """Regions of Faster R-CNN per second in the builder, against the bare torchvision detector on the same pixels.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        samples: pictures of each slice
        slices: of each measurement, its median
    """
    found = list_photographs(photographs)
    torch.manual_seed(0)
    detector = load_detector("none", "--weights")
    pictures = [
        torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) for path in found[:samples]
    ]

    def built() -> float:
        shards = OUT.with_name("regions")
        shutil.rmtree(shards, ignore_errors=True)
        shutil.copytree(shards_of(found, samples), shards)
        return samples * REGIONS / seconds(lambda: add_regions(shards, detector, count=REGIONS, note="benchmark"))

    @torch.no_grad()
    def detected() -> float:
        return samples * REGIONS / seconds(lambda: [detector.network([picture.float() / 255]) for picture in pictures])

    return compare(
        "regions",
        Goal("at least", 0.95),
        Side(f"the builder, {REGIONS} regions of each picture", "regions/s", built),
        Side("bare torchvision detector", "regions/s", detected),
        repeats=repeats,
        slices=slices,
    )


def _build(files: Sequence[Path], options: BuildOptions) -> float:
    shutil.rmtree(OUT, ignore_errors=True)
    samples = samples_of(files, len(files))
    return seconds(lambda: build_shards(OUT, dataset="benchmark", classes=CLASSES, samples=samples, options=options))


def _linked(photographs: Sequence[Path], count: int) -> list[Path]:
    """So many files, the photographs in turn: copies, since a tar holds linked files once."""
    folder = BUILD / "files"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:06d}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        if not file.exists():
            shutil.copyfile(photographs[number % len(photographs)], file)
    return files


def _smaller(data: bytes) -> bytes:
    """Decoded, its shorter side brought to 256 pixels, and encoded, as one would write it with Pillow."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = RESIZE / min(image.size)
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=RESIZED_QUALITY)
    return stream.getvalue()
