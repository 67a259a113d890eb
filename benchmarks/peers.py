"""The loader against those of other projects: the same photographs, the same squares, as many processes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Quantity, metric_of
from benchmarks.photographs import list_photographs, shards_of
from benchmarks.reading import BATCH, SAMPLES, SIDE, our_batches, rate_of_batches
from xmr_e2e.errors import XmrError

SQUARE = transforms.Compose([transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.PILToTensor()])
"""As each of these projects' examples do it, but for the conversion to float, which comes later here"""

Batches = Iterable[torch.Tensor]


def peers(photographs: Path, /, *, repeats: int = REPEATS, workers: int = 2) -> Figure:
    """Images per second of the loader, against the fastest of four other projects' loaders.

    Args:
        photographs: a folder of JPEG files
        repeats: of each measurement
        workers: processes of each loader
    """
    found = list_photographs(photographs)
    shards, folder = shards_of(found, SAMPLES), _folder(found)
    mds = _mosaic(folder)
    makers: dict[str, Callable[[], Batches]] = {
        "webdataset": lambda: _webdataset(shards, workers),
        "torchvision ImageFolder": lambda: _image_folder(folder, workers),
        "datasets imagefolder": lambda: _datasets(folder, workers),
        "mosaicml-streaming": lambda: _streaming(mds, workers),
    }
    ours, others = [], {name: [] for name in makers}  # type: ignore[var-annotated]
    for _ in range(repeats):
        ours.append(rate_of_batches(our_batches(shards, workers)))
        for name, make in makers.items():
            others[name].append(rate_of_batches(make()))
    sides = {name: Quantity(name, "images/s") for name in others}
    best = max(others, key=lambda name: sorted(others[name])[repeats // 2])
    above = Quantity(f"the loader, {workers} processes", "images/s")
    figure = metric_of("peers", Goal("at least", 1.5), above, sides[best], list(zip(ours, others[best])))
    return figure.note("all: " + "; ".join(sides[name].show(values) for name, values in others.items()))


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
    MDSWriter = _needed("streaming", "mosaicml-streaming").MDSWriter
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
    dataset = _needed("datasets", "datasets").load_dataset(
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
    streaming = _needed("streaming", "mosaicml-streaming")
    streaming.base.util.clean_stale_shared_memory()

    class Photographs(streaming.StreamingDataset):  # type: ignore[name-defined]
        def __getitem__(self, index: int) -> torch.Tensor:
            return SQUARE(Image.open(io.BytesIO(super().__getitem__(index)["image"])).convert("RGB"))

    dataset = Photographs(local=str(mds), shuffle=True, batch_size=BATCH)
    yield from DataLoader(dataset, BATCH, num_workers=workers)


def _needed(module: str, package: str):  # type: ignore[no-untyped-def]
    """Another project's module, which only this measurement needs."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise XmrError(f"{package}, which is compared with, is not installed; see docs/performance.md") from error
