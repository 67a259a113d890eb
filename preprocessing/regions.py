"""A detector's regions into shards that are already built: found once, read in each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

from preprocessing.common.command import run, show_built
from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.features import StoredRegions, UnusableFeatures, encode_regions
from xmr_e2e.shards.manifest import Manifest
from xmr_e2e.shards.media import PILLOW_MAX_PIXELS, UnusableImage, decode_rgb
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.schema import COCO_CLASSES, REGIONS_MEMBER
from xmr_e2e.towers.detector import Detector, load_detector

_BATCH = 16  # pictures that are held in memory; each is looked at by itself


def regions(
    shards: Annotated[Path, tyro.conf.arg(metavar="SHARDS")],
    /,
    *,
    weights: str = "coco",
    count: int = 36,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    overwrite: bool = False,
) -> None:
    """Find regions in the pictures of a folder of shards with Faster R-CNN, and put them into the shards.

    For each picture, those of which torchvision's fasterrcnn_resnet50_fpn is most certain: 1024 features (fc7 of its
    box head, float16), box and class. Pictures keep their aspect ratio, with a shorter side of 800 pixels. Interrupted,
    the command goes on where it was. The tower StoredRegions reads them.

    Example: python -m preprocessing.regions data/shards/mscoco

    Args:
        shards: the folder of shards, changed in place
        weights: coco (torchvision's, downloaded once), none (random), or a file with a state dict of
            fasterrcnn_resnet50_fpn, of any number of classes
        count: regions of each picture
        device: cuda, cuda:1, cpu
        overwrite: replace regions that were found in another way, or came with the dataset
    """
    torch.manual_seed(0)  # of random weights
    detector = load_detector(weights, "--weights")
    name = sha256_of(Path(weights))[:16] if Path(weights).is_file() else weights
    # Of COCO's classes they go without saying, as in the notes of regions that were found before there were others.
    classes = "" if detector.classes == COCO_CLASSES else f", {detector.classes} classes"
    note = f"{count} regions of torchvision's fasterrcnn_resnet50_fpn{classes}, weights {name}, shorter side 800"
    manifest = add_regions(shards, detector.to(_device(device)), count=count, note=note, overwrite=overwrite)
    show_built(manifest, shards)


def add_regions(shards: Path, detector: Detector, *, count: int, note: str, overwrite: bool = False) -> Manifest:
    """Add the `count` best regions of each picture to the shards; samples without a picture get none.

    note: how the regions are made, with all on which they depend; kept in the manifest.

    Raises:
        XmrError: no dataset there, a picture that cannot be decoded, or regions that were made in another way.
    """

    def encode(records: Sequence[Record]) -> list[bytes | None]:
        pictured = [record for record in records if record.image is not None]
        found = iter(detect_regions(detector, [_decode(record) for record in pictured], count))
        return [None if record.image is None else _encode(next(found), record.where) for record in records]

    return extend_shards(shards, REGIONS_MEMBER, encode, batch=_BATCH, note=note, overwrite=overwrite)


def detect_regions(detector: Detector, pictures: Sequence[Tensor], count: int) -> list[StoredRegions]:
    """The `count` best regions of pictures, uint8 (3, h, w), RGB; on the detector's device."""
    if not pictures:
        return []
    device = next(detector.parameters()).device
    found = detector.find_in_pictures([picture.to(device).float() / 255 for picture in pictures], count)
    features = detector.describe(found.pooled).half()
    columns = (column.cpu().numpy() for column in (features, found.boxes.float(), found.classes))
    return [StoredRegions(*rows) for rows in zip(*columns)]


def _encode(regions: StoredRegions, where: str) -> bytes:
    try:
        return encode_regions(regions)
    except UnusableFeatures as error:
        raise XmrError(f"{where}: the detector's weights give no usable regions: {error}") from error


def _decode(record: Record) -> Tensor:
    assert record.image is not None
    try:
        image = decode_rgb(record.image, max_pixels=PILLOW_MAX_PIXELS)
    except UnusableImage as error:
        raise XmrError(f"{record.where}: the image {error}") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch says AssertionError where it was built without CUDA
        raise XmrError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


if __name__ == "__main__":
    run(regions)
