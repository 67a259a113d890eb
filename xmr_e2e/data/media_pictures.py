"""Pictures of what is no picture: the waveform and spectrogram of a sound, a video's film strip, a rendered shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xmr_e2e.data.augment_points import AXES, Axis
from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.errors import XmrError

PAPER, INK, FILM, HOLE = "#f1f2f4", "#2b4a6f", "#1d2127", "#c9ced6"
COLORS = np.array([(16, 10, 40), (70, 20, 110), (180, 50, 90), (245, 140, 40), (252, 250, 190)], np.float64)
"""of a spectrogram, from its least to its greatest energy, at equal steps"""
WINDOW = 512
"""samples of a spectrum: 32 ms at 16 kHz"""
RANGE_DB = 70.0
"""of a spectrogram; what is farther below its maximum has the least color"""
FRAMES = (3, 2)
"""of a film strip: columns and rows"""
POINTS = 12_000
"""of a shape's surface: with fewer, it has holes"""
AZIMUTH, ELEVATION = np.radians(35.0), np.radians(25.0)
"""from where a shape is seen"""
NEAR, FAR = np.array([0, 60, 110]), np.array([205, 222, 235])
"""colors of a shape's points, RGB"""
Frame = TypeVar("Frame")
Coordinates: TypeAlias = NDArray[np.floating[Any]]


def draw_media(
    modality: str,
    extension: str,
    data: bytes,
    where: str,
    *,
    size: tuple[int, int] = (240, 180),
    bounds: MediaBounds = DEFAULT_BOUNDS,
) -> Image.Image:
    """The raw file of a sound, a video or a 3D shape as a picture (width, height) to look at.

    Args:
        modality: "audio", "video" or "shape3d".
        extension: of the file, without the dot.
        where: shard and key, or the file's name, for the error.

    Raises:
        XmrError: it cannot be decoded, or is above the bounds; begins with `where`.
    """
    if modality == "audio":
        from xmr_e2e.data.sounds import RATE, decode_sound

        return draw_sound(decode_sound(data, where, bounds=bounds), size, rate=RATE)
    if modality == "video":
        from xmr_e2e.data.videos import decode_frames

        side = frame_side(size)
        frames = decode_frames(data, where, frames=FRAMES[0] * FRAMES[1], size=side, bounds=bounds)
        return draw_film(frames.transpose(0, 2, 3, 1), size)
    if modality == "shape3d":
        from xmr_e2e.data.shapes import decode_points

        points = decode_points(data, where, points=POINTS, extension=extension, seed=0, bounds=bounds)
        return draw_shape(points, size, up=vertical_axis(extension))
    raise XmrError(f"{where}: {modality} is none of audio, video, shape3d")


def draw_sound(sound: NDArray[np.float32], size: tuple[int, int], *, rate: int) -> Image.Image:
    """A sound (t,): its waveform above its spectrogram, over all of its time, and its length in seconds."""
    width, height = size
    top = height // 3
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    peak = max(float(np.abs(sound).max()), 1e-6)
    for column, (low, high) in enumerate(zip(*(each.tolist() for each in extremes(sound / peak, width)))):
        middle, reach = top / 2, top / 2 - 2
        draw.line((column, middle - high * reach, column, middle - low * reach), fill=INK)
    energy = spectrogram(sound, width)
    shades = np.clip(1 + energy / RANGE_DB, 0, 1) * (len(COLORS) - 1)
    planes = [np.interp(shades, np.arange(len(COLORS)), COLORS[:, plane]) for plane in range(3)]
    image = Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8)[::-1])
    picture.paste(image.resize((width, height - top), Image.Resampling.BILINEAR), (0, top))
    draw.text((4, height - 14), f"{len(sound) / rate:.1f} s", fill=PAPER)
    return picture


def extremes(sound: NDArray[np.float32], parts: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the greatest sample (parts,) of each of so many parts of equal time of a sound (t,), t >= 1."""
    starts = np.linspace(0, len(sound), parts, endpoint=False).astype(int)
    return np.minimum.reduceat(sound, starts), np.maximum.reduceat(sound, starts)


def spectrogram(sound: NDArray[np.float32], columns: int) -> NDArray[np.float64]:
    """Energy (frequencies, columns) in decibels below its maximum, of spectra at evenly spaced times.

    Frequencies ascend from 0 to half of the rate. Silence is at -RANGE_DB throughout.
    """
    padded = np.pad(sound.astype(np.float64), WINDOW // 2)
    starts = np.linspace(0, len(padded) - WINDOW, columns).astype(int)
    windows = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    energy = np.abs(np.fft.rfft(windows, axis=1)).T ** 2
    if not energy.max() > 0:
        return np.full(energy.shape, -RANGE_DB)
    return np.maximum(10 * np.log10(energy / energy.max() + 1e-30), -RANGE_DB)


def frame_side(size: tuple[int, int]) -> int:
    """Side of the squares of a film strip of this size, in pixels."""
    columns, rows = FRAMES
    return max(1, min(size[0] // columns, size[1] // rows) - 8)


def film_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames that a film strip shows, of many evenly spaced ones."""
    count = FRAMES[0] * FRAMES[1]
    return [frames[int((place + 0.5) * len(frames) / count)] for place in range(count)]


def draw_film(frames: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """A film strip of frames (f, side, side, 3), row by row, with holes between the rows as a film has them."""
    columns, rows = FRAMES
    picture = Image.new("RGB", size, FILM)
    draw = ImageDraw.Draw(picture)
    cell = (size[0] // columns, size[1] // rows)
    for number, frame in enumerate(frames):
        left, top = number % columns * cell[0], number // columns * cell[1]
        side = len(frame)
        picture.paste(Image.fromarray(frame), (left + (cell[0] - side) // 2, top + (cell[1] - side) // 2))
        for edge in (top, top + cell[1] - 3):
            for hole in range(left + 4, left + cell[0] - 4, 10):
                draw.rectangle((hole, edge, hole + 4, edge + 2), fill=HOLE)
    return picture


def vertical_axis(extension: str) -> Axis:
    """The axis that is upwards in a file of this extension: y by glTF's definition, z in most collections of meshes."""
    return "y" if extension == "glb" else "z"


def draw_shape(
    points: NDArray[np.float32],
    size: tuple[int, int],
    *,
    up: Axis = "z",
    azimuth: float = AZIMUTH,
    paper: str = PAPER,
) -> Image.Image:
    """Points (p, 3) in the unit ball, turned about the vertical axis, in parallel projection from a little above.

    The nearer a point, the darker it is, and the nearest of a pixel is drawn.
    """
    vertical = AXES.index(up)
    first, second, third = (points[:, (vertical + step) % 3] for step in (1, 2, 0))
    across, away = _turned(first, second, azimuth)
    depth, height = _turned(away, third, ELEVATION)
    order = np.argsort(-depth, kind="stable")  # the nearest last: it stays
    share = ((depth[order] + 1) / 2).clip(0, 1)[:, None]
    scale = (min(size) - 4) / 2
    columns, rows = size[0] / 2 - 0.5 + scale * across[order], size[1] / 2 - 0.5 - scale * height[order]
    view = np.array(Image.new("RGB", size, paper))
    block = np.array([(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)])
    places = np.stack([rows, columns], 1).astype(int)[:, None] + block  # three pixels wide: no holes in surfaces
    view[places[..., 0], places[..., 1]] = (NEAR + share * (FAR - NEAR)).astype(np.uint8)[:, None]
    return Image.fromarray(view)


def _turned(x: Coordinates, y: Coordinates, angle: float) -> tuple[Coordinates, Coordinates]:
    """Coordinates in a plane, turned by an angle about the origin."""
    return np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
