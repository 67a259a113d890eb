"""Small pictures of sounds, videos and shapes as JPEG files, for an index and its answers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.data.media_pictures import draw_media
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import MEDIA_BYTES
from xmr_e2e.received import read_bytes

SIZE = 240, 180
"""width and height of each in pixels"""
_QUALITY = 85


def draw_file(path: Path, modality: str, bounds: MediaBounds = DEFAULT_BOUNDS) -> bytes:
    """A JPEG of a sound, a video or a shape.

    Raises:
        XmrError: it cannot be read or decoded; names it.
    """
    try:
        content = read_bytes(path, most=MEDIA_BYTES)
    except OSError as error:
        raise XmrError(f"{path}: cannot be read: {error.strerror}") from error
    return draw(content, modality, path.suffix.lower().removeprefix("."), where=str(path), bounds=bounds)


def draw_sample(
    reader: SplitReader, position: int, modalities: Sequence[str], bounds: MediaBounds = DEFAULT_BOUNDS
) -> bytes | None:
    """A JPEG of the video, the shape or the sound of a sample of shards; None for one that has none of them raw.

    Args:
        modalities: of these alone.

    Raises:
        XmrError: it cannot be decoded; names shard and key.
    """
    for modality in ("video", "shape3d", "audio"):
        if modality in modalities and reader.has_media(position, modality):
            content, extension = reader.media(position, modality)
            break
    else:
        return None
    return draw(content, modality, extension, where=reader.where(position), bounds=bounds)


def draw(data: bytes, modality: str, extension: str, *, where: str, bounds: MediaBounds = DEFAULT_BOUNDS) -> bytes:
    """A JPEG of the bytes of a sound, a video or a shape.

    Raises:
        XmrError: they cannot be decoded; begins with `where`.
    """
    stream = io.BytesIO()
    draw_media(modality, extension, data, where, size=SIZE, bounds=bounds).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
