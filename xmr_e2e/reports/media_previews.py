"""Sounds to be heard, videos to be seen moving and shapes to be seen turning, small enough to be part of a page.

Nothing of the files themselves gets into a page: each is decoded, and what is shown is made of its samples, pixels or
points.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import shorten
from typing import ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmr_e2e.data.augment_points import Axis
from xmr_e2e.data.media_pictures import draw_shape, extremes
from xmr_e2e.data.preview_files import encode_mp3
from xmr_e2e.errors import XmrError
from xmr_e2e.reports.plots import BLUE
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

SECONDS = 3
"""of a sound that are heard, from its beginning"""
RATE = 16_000
FRAMES = 8
"""of a video, evenly spaced, as evaluation takes them"""
VIEWS = 12
"""of a shape, in a whole turn"""
POINTS = 6000
"""of a shape's surface"""
SIDE = 128
"""of a frame or view, in pixels"""
QUALITY = 75
"""of JPEG"""
PAGE_BYTES = 12_000_000
"""of sounds and of moving pictures in a page: what comes later is drawn, and does not play or move"""
LONGEST_REASON = 160
_BARS = 80


@dataclass(frozen=True)
class SoundPreview:
    """The beginning of a sound."""

    waveform: bytes
    """SVG"""
    mp3: bytes | None
    """None where the page has no room for it, or FFmpeg was built without its encoder"""
    seconds: float
    """of the whole sound"""
    kind: ClassVar[Literal["sound"]] = "sound"

    @property
    def size(self) -> int:
        return len(self.mp3 or b"")

    @property
    def is_cut(self) -> bool:
        return self.seconds > SECONDS

    def still(self) -> SoundPreview:
        """Without what takes room."""
        return SoundPreview(self.waveform, None, self.seconds)


@dataclass(frozen=True)
class Reel:
    """Frames of a video, or views of a turning shape."""

    strip: bytes
    """JPEG, the frames from left to right, each a square"""
    frames: int
    first: bytes = field(repr=False)
    """the first of them alone, JPEG"""
    kind: ClassVar[Literal["reel"]] = "reel"

    @property
    def size(self) -> int:
        return len(self.strip)

    def still(self) -> Reel:
        """The first frame."""
        return Reel(self.first, 1, self.first)


@dataclass(frozen=True)
class Unshown:
    """A medium that cannot be decoded."""

    reason: str
    """in a line"""
    kind: ClassVar[Literal["unshown"]] = "unshown"


Preview: TypeAlias = SoundPreview | Reel | Unshown


class MediaReader(Protocol):
    """The part of a `SplitReader` that previews need."""

    def media(self, position: int, modality: str) -> tuple[bytes, str]: ...

    def where(self, position: int) -> str: ...


class MediaPreviews:
    """The previews of a page: each is made once, and what plays or moves is shown within PAGE_BYTES, repeats included.

    up: the axis about which shapes turn.
    """

    def __init__(self, up: Axis = "z", room: int = PAGE_BYTES) -> None:
        self._up: Axis = up
        self._room = room
        self._made: dict[tuple[str, str], Preview] = {}

    def of(self, reader: MediaReader, position: int, modality: str) -> Preview | None:
        """The preview of a sample's medium; None for pictures and texts, and where the sample has features alone."""
        if modality not in MEDIA_EXTENSIONS:
            return None
        where = reader.where(position)
        if (where, modality) not in self._made:
            try:
                data, extension = reader.media(position, modality)
            except XmrError:  # published features, which have no file
                return None
            self._made[where, modality] = self._make(modality, data, where, extension)
        return self._within_room(self._made[where, modality])

    def _make(self, modality: str, data: bytes, where: str, extension: str) -> Preview:
        try:
            if modality == "audio":
                return preview_sound(data, where)
            if modality == "video":
                return preview_video(data, where)
            return preview_shape(data, where, extension, self._up)
        except XmrError as error:
            reason = str(error).removeprefix(f"{where}: ")
            return Unshown(shorten(reason, LONGEST_REASON, placeholder=" …"))

    def _within_room(self, preview: Preview) -> Preview:
        if isinstance(preview, Unshown):
            return preview
        if preview.size > self._room:
            return preview.still()
        self._room -= preview.size
        return preview


def preview_sound(data: bytes, where: str) -> SoundPreview:
    """The first seconds of a sound: its waveform, and itself.

    Raises:
        XmrError: as `decode_sound`.
    """
    from xmr_e2e.data.sounds import decode_sound

    samples = decode_sound(data, where, rate=RATE)
    heard = samples[: SECONDS * RATE]
    return SoundPreview(draw_waveform(heard), encode_mp3(heard, rate=RATE), len(samples) / RATE)


def preview_video(data: bytes, where: str) -> Reel:
    """Evenly spaced frames of a video, the centered square of each.

    Raises:
        XmrError: as `decode_frames`.
    """
    from xmr_e2e.data.videos import decode_frames

    return _reel(decode_frames(data, where, frames=FRAMES, size=SIDE).transpose(0, 2, 3, 1))


def preview_shape(data: bytes, where: str, extension: str, up: Axis) -> Reel:
    """Views of a shape, in a whole turn about its vertical axis.

    Raises:
        XmrError: as `decode_points`.
    """
    from xmr_e2e.data.shapes import decode_points

    points = decode_points(data, where, points=POINTS, extension=extension, seed=0)
    angles = 2 * np.pi * np.arange(VIEWS) / VIEWS
    views = [draw_shape(points, (SIDE, SIDE), up=up, azimuth=float(angle), paper="white") for angle in angles]
    return _reel(np.stack([np.asarray(view) for view in views]))


def draw_waveform(samples: NDArray[np.float32]) -> bytes:
    """Samples (t,) as SVG: for each of some equal parts of the time, a bar from the lowest to the highest of them.

    The largest of all fills the height.
    """
    low, high = extremes(samples, min(_BARS, len(samples)))
    scale = 28 / max(float(np.abs(samples).max()), 1e-3)
    bars = "".join(
        f"M{place * 2 + 1} {30 - scale * top:.1f}V{30 - scale * bottom + 0.5:.1f}"
        for place, (bottom, top) in enumerate(zip(low.tolist(), high.tolist()))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="160" height="60" viewBox="0 0 {2 * len(low)} 60" '
        f'preserveAspectRatio="none"><path d="{bars}" stroke="{BLUE}" stroke-width="1.4"/></svg>'
    ).encode()


def _reel(pictures: NDArray[np.uint8]) -> Reel:
    """pictures: (n, SIDE, SIDE, 3)"""
    strip = pictures.transpose(1, 0, 2, 3).reshape(SIDE, -1, 3)
    return Reel(_jpeg(strip), len(pictures), _jpeg(pictures[0]))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "JPEG", quality=QUALITY, optimize=True)
    return stream.getvalue()


MEDIA_NOTES: Mapping[str, str] = {
    "audio": f"Sounds are heard as their first {SECONDS} seconds.",
    "video": f"Videos are {FRAMES} frames, evenly spaced, cut to squares; the mouse over one stops it.",
    "shape3d": f"3D shapes are {POINTS:,} points of their surface, turning; the mouse over one stops it.",
}
"""modality -> what its previews show of it, in a sentence"""
