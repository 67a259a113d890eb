"""Small pictures of sounds, videos and shapes: a waveform, a strip of frames, points in the light."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.shapes import decode_points
from xmr_e2e.data.sounds import decode_sound
from xmr_e2e.data.videos import decode_frames
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import MEDIA_BYTES
from xmr_e2e.received import read_bytes

WIDTH = 320
"""pixels, at most, of each"""
_STRIP = 3
"""frames of a video"""
_POINTS = 6000
_SIDE, _EDGE = 240, 1.08
"""of a shape's picture in pixels, and half of it where the shape's radius is 1"""
_DOT = 1
"""pixels by which a point reaches beyond its own"""
_LEFT, _ABOVE = np.radians(35.0), np.radians(25.0)
"""where a shape is seen from: so far from its front, and so high"""
_HEIGHT = 120
_QUALITY = 85
PAPER, INK, GROUND = "#f1f2f4", "#0067a3", 245


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
        if modality in modalities and modality in reader.modalities(position):
            with suppress(XmrError):  # it has published features alone
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
    _DRAWN[modality](data, where, extension, bounds).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _draw_sound(data: bytes, where: str, extension: str, bounds: MediaBounds) -> Image.Image:
    return waveform(decode_sound(data, where, bounds=bounds))


def _draw_video(data: bytes, where: str, extension: str, bounds: MediaBounds) -> Image.Image:
    frames = decode_frames(data, where, frames=_STRIP, size=WIDTH // _STRIP, bounds=bounds)
    return Image.fromarray(np.concatenate([*frames.transpose(0, 2, 3, 1)], axis=1))


def _draw_shape(data: bytes, where: str, extension: str, bounds: MediaBounds) -> Image.Image:
    return lit_points(decode_points(data, where, points=_POINTS, extension=extension, seed=0, bounds=bounds))


_DRAWN: dict[str, Callable[[bytes, str, str, MediaBounds], Image.Image]] = {
    "audio": _draw_sound,
    "video": _draw_video,
    "shape3d": _draw_shape,
}


def waveform(samples: NDArray[np.float32]) -> Image.Image:
    """The least and the largest of the samples (t,) in each column of pixels, as high as the loudest one needs."""
    image = Image.new("RGB", (WIDTH, _HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    peak = max(float(np.abs(samples).max()), 1e-3)
    ends = np.linspace(0, len(samples), WIDTH + 1).astype(int)
    for column, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
        part = samples[start : max(end, start + 1)]
        low, high = (round(_HEIGHT / 2 - value / peak * (_HEIGHT / 2 - 4)) for value in (part.min(), part.max()))
        pen.line((column, high, column, low), fill=INK)
    return image


def lit_points(points: NDArray[np.float32]) -> Image.Image:
    """Points (p, 3) of the unit ball, z upwards, seen from the front, a little from the left and from above: the
    nearer, the darker."""
    right, near, up = _turned(points)
    pixels = np.full((_SIDE, _SIDE), GROUND, np.uint8)
    shades = (150 - 130 * (near + 1) / 2).astype(np.uint8)
    columns, rows = (((each + _EDGE) * (_SIDE / (2 * _EDGE))).astype(int) for each in (right, -up))
    order = np.argsort(near, kind="stable")  # the nearest last, over the others
    for across in range(-_DOT, _DOT + 1):
        for down in range(-_DOT, _DOT + 1):
            place = (rows[order] + down).clip(0, _SIDE - 1), (columns[order] + across).clip(0, _SIDE - 1)
            np.minimum.at(pixels, place, shades[order])
    return Image.fromarray(pixels).convert("RGB")


def _turned(points: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (p,) to the right, towards the viewer, and upwards."""
    x, y, z = points.astype(np.float64).T
    right = x * np.cos(_LEFT) + y * np.sin(_LEFT)
    near = x * np.sin(_LEFT) - y * np.cos(_LEFT)
    return right, near * np.cos(_ABOVE) + z * np.sin(_ABOVE), z * np.cos(_ABOVE) - near * np.sin(_ABOVE)
