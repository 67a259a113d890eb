"""Sounds, videos and 3D shapes as small files that a browser plays: MP3, MP4, and a picture that turns.

They are made anew of what was decoded: nothing of the files themselves gets to who looks at them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmr_e2e.data.images import center_square
from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.data.media_pictures import (
    POINTS,
    draw_film,
    draw_media,
    draw_shape,
    draw_sound,
    film_frames,
    frame_side,
    vertical_axis,
)
from xmr_e2e.errors import XmrError

MEDIA_TYPES = {"audio": "audio/mpeg", "video": "video/mp4", "shape3d": "image/webp"}
"""modality -> the kind of its previews"""
SOUND_SECONDS = 10
"""that are heard, from the beginning"""
BIT_RATE = 32_000
"""of MP3, which all browsers play: an eighth of a WAV of 16 kHz"""
CLIP_FRAMES, CLIP_SIDE = 32, 180
"""of a video: evenly spaced over all of it, and the shorter side in pixels"""
CLIP_SECONDS = Fraction(1, 2), Fraction(4)
"""in which they are shown, at least and at most: a longer video is seen faster than it was"""
CLIP_QUALITY = "30"
"""x264's constant rate factor"""
VIEWS, TURN_SECONDS = 24, 4
"""of a shape, in a whole turn"""
VIEW_SIZE = 200, 150
VIEW_QUALITY = 45
"""of WebP"""


@dataclass(frozen=True)
class PreviewFile:
    """A medium as a person looks at it."""

    picture: Image.Image
    """as `draw_media` draws it"""
    plays: bytes | None = field(repr=False)
    """of the kind in MEDIA_TYPES; None where FFmpeg was built without the encoder, and for a video of which too much
    would have to be decoded"""


def preview_file(
    modality: str,
    extension: str,
    data: bytes,
    where: str,
    *,
    size: tuple[int, int],
    bounds: MediaBounds = DEFAULT_BOUNDS,
) -> PreviewFile:
    """A sound, a video or a shape, decoded once, as a picture (width, height) and as what plays.

    Args:
        modality: "audio", "video" or "shape3d".
        extension: of the file, without the dot.
        where: shard and key, or the file's name, for the error.

    Raises:
        XmrError: it cannot be decoded, or is above the bounds; begins with `where`.
    """
    if modality == "audio":
        from xmr_e2e.data.sounds import RATE, decode_sound

        sound = decode_sound(data, where, bounds=bounds)
        return PreviewFile(draw_sound(sound, size, rate=RATE), encode_mp3(sound[: SOUND_SECONDS * RATE], rate=RATE))
    if modality == "video":
        from xmr_e2e.data.videos import whole_frames

        try:
            pictures, seconds = whole_frames(data, where, frames=CLIP_FRAMES, shorter_side=CLIP_SIDE, bounds=bounds)
        except XmrError:  # to decode as many may be above the bound, where the few of a film strip are below it
            return PreviewFile(draw_media(modality, extension, data, where, size=size, bounds=bounds), None)
        return PreviewFile(_film(pictures, size), _clip(pictures, seconds))
    if modality == "shape3d":
        from xmr_e2e.data.shapes import decode_points

        points = decode_points(data, where, points=POINTS, extension=extension, seed=0, bounds=bounds)
        angles = 2 * np.pi * np.arange(VIEWS) / VIEWS
        up = vertical_axis(extension)
        views = [draw_shape(points, VIEW_SIZE, up=up, azimuth=float(angle)) for angle in angles]
        return PreviewFile(draw_shape(points, size, up=up), encode_turn(views))
    raise XmrError(f"{where}: {modality} is none of {', '.join(MEDIA_TYPES)}")


def encode_mp3(samples: NDArray[np.float32], *, rate: int) -> bytes | None:
    """Mono samples (t,) in [-1, 1] as an MP3 file; None where FFmpeg was built without its encoder."""
    import av

    if "libmp3lame" not in av.codecs_available:
        return None
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp3", options={"fflags": "+bitexact"}) as container:
        sound = container.add_stream("libmp3lame", rate=rate, layout="mono")
        sound.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return stream.getvalue()


def encode_turn(views: Sequence[Image.Image]) -> bytes:
    """Views of a shape in a whole turn as an animated WebP file, which turns without end."""
    stream = io.BytesIO()
    duration = round(1000 * TURN_SECONDS / len(views))
    views[0].save(
        stream, "WEBP", save_all=True, append_images=views[1:], duration=duration, loop=0, quality=VIEW_QUALITY
    )
    return stream.getvalue()


def _film(pictures: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> Image.Image:
    shown = map(Image.fromarray, film_frames(pictures))
    squares = [center_square(picture, frame_side(size)).permute(1, 2, 0).numpy() for picture in shown]
    return draw_film(np.stack(squares), size)


def _clip(pictures: Sequence[NDArray[np.uint8]], seconds: Fraction) -> bytes | None:
    import av

    from xmr_e2e.data.videos import encode_mp4

    if "libx264" not in av.codecs_available:
        return None
    shortest, longest = CLIP_SECONDS
    rate = len(pictures) / min(max(seconds, shortest), longest)
    return encode_mp4(pictures, rate, quality=CLIP_QUALITY, keyframe_every=len(pictures))
