"""The loader against those of other projects: the same photographs, the same squares, as many processes."""

from __future__ import annotations

import importlib
import io
import random
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Quantity, metric_of
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.reading import BATCH, SAMPLES, SIDE, our_batches, rate_of_batches, square

SQUARE = transforms.Compose([transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.PILToTensor()])
"""As each of these projects' examples do it, but for the conversion to float, which comes later here"""

LONGEST_REASON = 80
"""in characters, of why a loader was left out"""

Batches = Iterable[torch.Tensor]


def peers(photographs: Path, /, *, repeats: int = REPEATS, workers: int = 2) -> Figure:
    """Images per second of the loader, against the fastest of other projects' loaders, as far as they are installed.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        workers: processes of each loader, threads of SPDL
    """
    found = list_photographs(photographs)
    shards = shards_of(found, SAMPLES)
    those = others(shards, _folder(found), workers)
    reasons = {name: why_left_out(batches) for name, batches in those.items()}
    rates: dict[str, list[float]] = {name: [] for name, reason in reasons.items() if not reason}
    ours = []
    for _ in range(repeats):
        ours.append(rate_of_batches(our_batches(shards, workers)))
        for name, measured in rates.items():
            measured.append(rate_of_batches(those[name]()))
    best = max(rates, key=lambda name: statistics.median(rates[name]))
    above, below = Quantity(f"the loader, {workers} processes", "images/s"), Quantity(best, "images/s")
    figure = metric_of("peers", Goal("at least", 1.5), above, below, list(zip(ours, rates[best])))
    figure = figure.note("all: " + "; ".join(Quantity(name, "images/s").show(values) for name, values in rates.items()))
    left_out = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    return figure.note(f"left out: {'; '.join(left_out)}") if left_out else figure


def others(shards: Path, folder: Path, workers: int) -> dict[str, Callable[[], Batches]]:
    """All that can be compared with, of the same photographs in shards and in a folder."""
    mds, chunks = cache(partial(_mosaic, folder)), cache(partial(_chunks, folder))
    return {
        "webdataset": partial(_webdataset, shards, workers),
        "torchvision ImageFolder": partial(_image_folder, folder, workers),
        "datasets imagefolder": partial(_datasets, folder, workers),
        "mosaicml-streaming": lambda: _streaming(mds(), workers),
        "SPDL, FFmpeg": partial(_spdl_ffmpeg, folder, workers),
        "SPDL, simplejpeg": partial(_spdl_simplejpeg, folder, workers),
        "LitData": lambda: _litdata(chunks(), workers),
    }


def why_left_out(batches: Callable[[], Batches]) -> str:
    """The reason why there is no first batch, such as a module that is not installed; empty where there is one."""
    try:
        next(iter(batches()))
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:
        return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
    return ""


def _folder(photographs: Sequence[Path]) -> Path:
    """As many samples in ten folders of classes, linked."""
    out = BUILD / f"folder-{shards_of(photographs, SAMPLES).name}"
    shutil.rmtree(out, ignore_errors=True)
    for number in range(SAMPLES):
        path = out / str(number % 10) / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(photographs[number % len(photographs)].resolve())
    return out


def _mosaic(folder: Path) -> Path:
    MDSWriter = importlib.import_module("streaming").MDSWriter
    out = folder.with_name(f"{folder.name}-mds")
    shutil.rmtree(out, ignore_errors=True)
    with MDSWriter(out=str(out), columns={"image": "bytes", "label": "int"}, progress_bar=False) as writer:
        for path in sorted(folder.rglob("*.jpg")):
            writer.write({"image": path.read_bytes(), "label": int(path.parent.name)})
    return out


def _webdataset(shards: Path, workers: int) -> Batches:
    import webdataset

    urls = sorted(map(str, shards.glob("*.tar")))
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=len(urls))
        .shuffle(1000)
        .decode("pilrgb")
        .to_tuple("jpg")
        .map_tuple(SQUARE)
        .batched(BATCH)
    )
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=workers)
    return (torch.stack(tuple(images)) if not isinstance(images, torch.Tensor) else images for (images,) in loader)


def _image_folder(folder: Path, workers: int) -> Batches:
    loader = DataLoader(ImageFolder(str(folder), SQUARE), BATCH, shuffle=True, num_workers=workers)
    return (images for images, _ in loader)


def _datasets(folder: Path, workers: int) -> Batches:
    dataset = importlib.import_module("datasets").load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(BUILD / "datasets")
    )
    dataset.set_transform(_squares)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, collate_fn=_stacked)
    return iter(loader)


def _squares(rows: dict[str, list[Image.Image]]) -> dict[str, list[torch.Tensor]]:
    return {"image": [SQUARE(image.convert("RGB")) for image in rows["image"]]}


def _stacked(rows: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([row["image"] for row in rows])


def _streaming(mds: Path, workers: int) -> Iterator[torch.Tensor]:
    streaming = importlib.import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()

    class Photographs(streaming.StreamingDataset):  # type: ignore[name-defined]
        def __getitem__(self, index: int) -> torch.Tensor:
            return SQUARE(Image.open(io.BytesIO(super().__getitem__(index)["image"])).convert("RGB"))

    dataset = Photographs(local=str(mds), shuffle=True, batch_size=BATCH)
    yield from DataLoader(dataset, BATCH, num_workers=workers)


def _chunks(folder: Path) -> Path:
    """The photographs in LitData's own format."""
    litdata = importlib.import_module("litdata")
    out = folder.with_name(f"{folder.name}-litdata")
    shutil.rmtree(out, ignore_errors=True)
    files = sorted(map(str, folder.rglob("*.jpg")))
    # Its own way of starting processes would become that of all others.
    litdata.optimize(
        _litdata_sample, files, output_dir=str(out), chunk_bytes="64MB", num_workers=1, start_method="fork"
    )
    return out


def _litdata_sample(file: str) -> dict[str, bytes | int]:
    return {"image": Path(file).read_bytes(), "label": int(Path(file).parent.name)}


def _litdata(chunks: Path, workers: int) -> Batches:
    litdata = importlib.import_module("litdata")

    class Photographs(litdata.StreamingDataset):  # type: ignore[name-defined]
        def __getitem__(self, index: object) -> torch.Tensor:
            return SQUARE(Image.open(io.BytesIO(super().__getitem__(index)["image"])).convert("RGB"))

    dataset = Photographs(str(chunks), shuffle=True)
    return iter(litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers))


def _spdl_ffmpeg(folder: Path, threads: int) -> Batches:
    """Batches of files, each decoded, cut and scaled by FFmpeg in one thread, as SPDL's examples do it."""
    io = importlib.import_module("spdl.io")
    how = f"crop='min(iw,ih)':'min(iw,ih)',scale={SIDE}:{SIDE},format=pix_fmts=rgb24"

    def load(files: Sequence[str]) -> torch.Tensor:
        packets = [io.demux_image(file) for file in files]
        frames = [io.decode_packets(each, filter_desc=how) for each in packets]
        return io.to_torch(io.convert_frames(frames)).permute(0, 3, 1, 2)

    return _spdl(_batches_of(folder), load, threads)


def _spdl_simplejpeg(folder: Path, threads: int) -> Batches:
    """SPDL's threads around the decoding of ours."""

    def load(files: Sequence[str]) -> torch.Tensor:
        return torch.stack([square(Path(file).read_bytes(), SIDE) for file in files])

    return _spdl(_batches_of(folder), load, threads)


def _spdl(source: Iterable[Sequence[str]], load: Callable[[Sequence[str]], torch.Tensor], threads: int) -> Batches:
    builder = importlib.import_module("spdl.pipeline").PipelineBuilder()
    pipeline = builder.add_source(source).pipe(load, concurrency=threads).add_sink(threads).build(num_threads=threads)
    with pipeline.auto_stop():
        yield from pipeline


def _batches_of(folder: Path) -> list[list[str]]:
    files = sorted(map(str, folder.rglob("*.jpg")))
    random.Random(0).shuffle(files)
    return [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
