"""Small pictures (JPEG) and previews of sounds, videos and shapes, for an index and its answers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.data.media_pictures import draw_media
from xmr_e2e.data.preview_files import preview_file
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import MEDIA_BYTES
from xmr_e2e.received import read_bytes

SIZE = 240, 180
"""width and height of each in pixels"""
_QUALITY = 85


@dataclass(frozen=True)
class Shown:
    """The picture and the previews of an item."""

    jpeg: bytes | None = None
    previews: Mapping[str, bytes] = field(default_factory=dict)
    """modality -> a file of the kind in `preview_files.MEDIA_TYPES`"""


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
    for modality in _raw_media(reader, position, modalities):
        content, extension = reader.media(position, modality)
        return draw(content, modality, extension, where=reader.where(position), bounds=bounds)
    return None


def show_sample(
    reader: SplitReader, position: int, modalities: Sequence[str], bounds: MediaBounds = DEFAULT_BOUNDS
) -> Shown:
    """The JPEG that `draw_sample` draws, and the previews of all of a sample's media.

    Raises:
        XmrError: as `draw_sample`.
    """
    jpeg: bytes | None = None
    previews: dict[str, bytes] = {}
    for modality in _raw_media(reader, position, modalities):
        content, extension = reader.media(position, modality)
        shown = show(content, modality, extension, where=reader.where(position), bounds=bounds)
        jpeg, previews = jpeg or shown.jpeg, {**previews, **shown.previews}
    return Shown(jpeg, previews)


def draw(data: bytes, modality: str, extension: str, *, where: str, bounds: MediaBounds = DEFAULT_BOUNDS) -> bytes:
    """A JPEG of the bytes of a sound, a video or a shape.

    Raises:
        XmrError: they cannot be decoded; begins with `where`.
    """
    return _jpeg(draw_media(modality, extension, data, where, size=SIZE, bounds=bounds))


def show(data: bytes, modality: str, extension: str, *, where: str, bounds: MediaBounds = DEFAULT_BOUNDS) -> Shown:
    """The same, and a preview.

    Raises:
        XmrError: as `draw`.
    """
    made = preview_file(modality, extension, data, where, size=SIZE, bounds=bounds)
    return Shown(_jpeg(made.picture), {modality: made.plays} if made.plays else {})


def _raw_media(reader: SplitReader, position: int, modalities: Sequence[str]) -> list[str]:
    """The media that a sample has as files; the first one is what its picture is of."""
    return [name for name in ("video", "shape3d", "audio") if name in modalities and reader.has_media(position, name)]


def _jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
