"""Fingerprints to tell samples apart without keeping them: digests of files and texts, and of how a picture looks."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmr_e2e.shards.index import ShardIndex, Span, load_index
from xmr_e2e.shards.manifest import Shard
from xmr_e2e.shards.media import UnusableImage, decode_rgb
from xmr_e2e.shards.record import ReadSpan, Record, read_record
from xmr_e2e.shards.remote.mount import load_mount, open_tar
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

FINGERPRINT = np.dtype(
    [
        ("picture", np.uint64, 2),  # half of the sha256 of its bytes; 0 where there is none
        *((name, np.uint64, 2) for name in MEDIA_EXTENSIONS),  # likewise of the raw files of other media
        ("texts", np.uint64, 2),  # that of all its texts; 0 where there are none
        ("look", np.uint64),
        ("detail", np.uint64, 4),
        ("has_look", bool),
    ]
)
"""121 bytes of a sample."""
SIDE = 32
"""Pixels to which a picture is brought before its hash is taken."""
FLAT = 3.0
"""Grey levels of standard deviation, of 255, below which a picture has nothing by which it could be told."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to look through."""

    folder: Path
    shard: Shard
    max_pixels: int
    classes: int
    """their number"""


@dataclass(frozen=True)
class ShardFingerprints:
    """Of the samples of one shard, in order of row."""

    rows: NDArray[np.void]
    """(n,) of FINGERPRINT"""
    undecodable: tuple[str, ...]
    """keys"""
    flat: int
    """pictures that are compared by their bytes alone"""


def fingerprint_shard(task: ShardTask) -> ShardFingerprints:
    """Read all files of a shard, and decode its pictures. The tar of a mounted folder is fetched for it.

    Raises:
        XmrError: the shard or its index cannot be read.
    """
    index = load_index(task.folder / task.shard.name, task.shard, task.classes)
    rows = np.zeros(len(index), FINGERPRINT)
    undecodable, flat = [], 0
    file = open_tar(task.folder, task.shard, load_mount(task.folder))

    def read(span: Span) -> bytes:
        return os.pread(file, span[1], span[0])

    try:
        for number, key in enumerate(index.keys):
            where = f"{task.folder / task.shard.name}: {key}"
            record = read_record(index, number, read, where)
            try:
                rows[number] = _fingerprint(record, _media_digests(index, number, read), task.max_pixels)
            except UnusableImage:
                undecodable.append(key)
            else:
                flat += record.image is not None and not rows[number]["has_look"]
    finally:
        os.close(file)
    return ShardFingerprints(rows, tuple(undecodable), flat)


def perceptual_hashes(image: Image.Image) -> tuple[int, tuple[int, ...]] | None:
    """Perceptual hashes of 64 bits and of 4 x 64 bits, which hardly change when a picture is scaled or encoded again.

    Each bit says whether one of the lowest 8 x 8 (16 x 16) frequencies of the grey picture's cosine transform is above
    their median (C. Zauner: Implementation and benchmarking of perceptual image hash functions. 2010). A mirrored
    picture has others, and a flat one has none: then None is returned.
    """
    from scipy.fft import dctn  # takes long to import for whoever only reads shards

    grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32)
    if grey.std() < FLAT:
        return None
    frequencies = dctn(grey, norm="ortho")
    (coarse,), fine = (_signs(frequencies[:side, :side].ravel()) for side in (8, 16))
    return coarse, fine


def _signs(values: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(np.packbits(values > np.median(values)).view(np.uint64).tolist())


def _fingerprint(record: Record, media: list[tuple[int, int]], max_pixels: int) -> tuple[object, ...]:
    """A row of FINGERPRINT; texts are compared without regard to case and spaces. Raises UnusableImage."""
    texts = "\n".join(" ".join(text.split()).casefold() for text in record.metadata.texts)
    found = perceptual_hashes(decode_rgb(record.image, max_pixels=max_pixels)) if record.image is not None else None
    looks = *(found or (0, (0, 0, 0, 0))), found is not None
    return _digest(record.image or b""), *media, _digest(texts.encode()), *looks


def _media_digests(index: ShardIndex, row: int, read: ReadSpan) -> list[tuple[int, int]]:
    """Of the sample's raw sound, video and 3D shape; zeros for what it has not."""
    spans = [
        next((span for extension in known if (span := index.span(extension, row))), None)
        for known in MEDIA_EXTENSIONS.values()
    ]
    return [_digest(read(span)) if span else (0, 0) for span in spans]


def _digest(data: bytes) -> tuple[int, int]:
    """128 bits of the sha256; zeros for nothing."""
    if not data:
        return 0, 0
    digest = hashlib.sha256(data).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])
