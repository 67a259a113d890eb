"""Check that the raw file of a sound, a video or a 3D shape can be decoded, without keeping what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.errors import XmrError

FRAMES_LOOKED_AT = 3
"""of a video: to decode all would take as long as to watch it"""
_SIDE = 16
_KEPT_BOUNDS = ("max_seconds", "max_faces", "max_points")


def check_media(modality: str, extension: str, data: bytes, where: str, bounds: MediaBounds = DEFAULT_BOUNDS) -> None:
    """Decode a sound or a shape as a whole, and of a video its timeline and three evenly spaced frames.

    Args:
        modality: "audio", "video" or "shape3d".
        where: shard and key, or the file's name, for the error.

    Raises:
        XmrError: it cannot be decoded, or is above the bounds; begins with `where`.
    """
    if modality == "audio":
        from xmr_e2e.data.sounds import decode_sound

        decode_sound(data, where, bounds=bounds)
    elif modality == "video":
        from xmr_e2e.data.videos import decode_frames

        decode_frames(data, where, frames=FRAMES_LOOKED_AT, size=_SIDE, bounds=bounds)
    elif modality == "shape3d":
        from xmr_e2e.data.shapes import decode_points

        decode_points(data, where, points=1, extension=extension, seed=0, bounds=bounds)
    else:
        raise XmrError(f"{where}: {modality} is none of audio, video, shape3d")


def bounds_of_options(options: Mapping[str, int | None]) -> MediaBounds:
    """The bounds with which shards were built, by their manifest's options; the usual ones where it names none."""
    given = {name: value for name in _KEPT_BOUNDS if (value := options.get(name)) is not None}
    return replace(DEFAULT_BOUNDS, **given)
