"""Video bytes to evenly spaced frames of one size, and videos of a few frames for shards."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from xmr_e2e.data.images import Interpolation
from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds, decoding, open_media
from xmr_e2e.data.video_decoder import Timeline, VideoDecoder, find_video, read_timeline

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

MIDDLE = 0.5
"""of a segment: the chance by which evaluation takes a frame"""
STORED_QUALITY = "14"
"""x264's constant rate factor of the frames that `extract_frames` writes: they look as a JPEG of quality 90 does"""
MOST_STRETCHED = 8
"""a pixel's longer side as a multiple of its shorter one; what a file says beyond that is not believed"""


def decode_frames(
    data: bytes,
    where: str,
    *,
    frames: int,
    size: int,
    chances: Sequence[float] | NDArray[np.float64] | None = None,
    bounds: MediaBounds = DEFAULT_BOUNDS,
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """Decode evenly spaced frames of a video: uint8 (frames, 3, size, size), RGB.

    The video is cut into as many segments of equal time as there are frames, and each gives one (TSN sampling: Wang et
    al., 2016): the one that is shown in its middle, or at the time that chance gives. Frames are exact, since decoding
    begins with the keyframe before; a video of fewer frames gives some of them more than once. Each is turned upright,
    and its centered square is resized as that of a picture is (`images.load_square`).

    Args:
        where: shard and key, for the error.
        chances: (frames,) numbers in [0, 1), for training; None in evaluation.

    Raises:
        XmrError: no video that can be decoded, or one above the bounds; begins with `where`.
    """
    with open_media(data, where, "video") as container:
        stream = find_video(container, where)
        timeline = read_timeline(container, stream, where, bounds)
        wanted = choose_times(timeline, frames, chances)
        decoder = VideoDecoder(stream, timeline, where, bounds)
        found = {time: _square(frame, stream, size, interpolation) for time, frame in decoder.frames_at(wanted)}
    return np.stack([found[time] for time in wanted])


def extract_frames(
    data: bytes,
    where: str,
    *,
    frames: int,
    shorter_side: int | None = None,
    bounds: MediaBounds = DEFAULT_BOUNDS,
) -> bytes:
    """A video of so many frames of a video, as an MP4 file, so that a long one does not cost a shard.

    They are the frames that evaluation would take (`decode_frames`), upright, whole, and shown for as long as their
    segments last. MP4 with H.264 is what browsers play and `decode_frames` reads; each frame is a keyframe, so that
    each is decoded by itself. Sound is left out. The same version of the encoder gives the same bytes.

    Args:
        shorter_side: in pixels, at most; smaller frames keep their size. None: all do.

    Raises:
        XmrError: as `decode_frames`.
    """
    pictures, seconds = whole_frames(data, where, frames=frames, shorter_side=shorter_side, bounds=bounds)
    with decoding(where, "video"):
        return encode_mp4(pictures, frames / seconds, quality=STORED_QUALITY, keyframe_every=1)


def whole_frames(
    data: bytes,
    where: str,
    *,
    frames: int,
    shorter_side: int | None = None,
    bounds: MediaBounds = DEFAULT_BOUNDS,
) -> tuple[list[NDArray[np.uint8]], Fraction]:
    """The frames that evaluation would take, upright and whole, uint8 (h, w, 3), RGB, and the video's seconds.

    Sides are even, as codings demand. A video can change its size in its course.

    Args:
        shorter_side: in pixels, at most; smaller frames keep their size. None: all do.

    Raises:
        XmrError: as `decode_frames`.
    """
    with open_media(data, where, "video") as container:
        stream = find_video(container, where)
        timeline = read_timeline(container, stream, where, bounds)
        wanted = choose_times(timeline, frames, None)
        decoder = VideoDecoder(stream, timeline, where, bounds)
        found = {time: _whole_picture(frame, stream, shorter_side) for time, frame in decoder.frames_at(wanted)}
    return [found[time] for time in wanted], timeline.duration * timeline.unit


def choose_times(timeline: Timeline, frames: int, chances: Sequence[float] | NDArray[np.float64] | None) -> list[int]:
    """Times of the frames that are shown at the chosen time within each segment: ascending."""
    within = np.full(frames, MIDDLE) if chances is None else np.asarray(chances, np.float64)
    moments = timeline.times[0] + timeline.duration * (np.arange(frames) + within) / frames
    return [timeline.time_at(moment) for moment in moments.tolist()]


def _upright(frame: VideoFrame, stream: VideoStream) -> tuple[torch.Tensor, Fraction]:
    """A frame as uint8 (h, w, 3), and the width of its pixels in heights of one: not 1 for DVDs and tape."""
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    stretch = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, MOST_STRETCHED) <= stretch <= MOST_STRETCHED:
        stretch = Fraction(1)
    turns = round(frame.rotation / 90) % 4  # counterclockwise: of a phone that was held upright
    if turns:
        pixels = np.rot90(pixels, turns).copy()
    return torch.from_numpy(pixels), 1 / stretch if turns % 2 else stretch


def _square(frame: VideoFrame, stream: VideoStream, size: int, interpolation: Interpolation) -> NDArray[np.uint8]:
    """The centered square of a frame, resized to uint8 (3, size, size), antialiased."""
    pixels, stretch = _upright(frame, stream)
    height, width, _ = pixels.shape
    side = min(Fraction(height), width * stretch)
    rows, columns = max(1, round(side)), max(1, round(side / stretch))
    top, left = (height - rows) // 2, (width - columns) // 2
    square = pixels[top : top + rows, left : left + columns].permute(2, 0, 1)
    # Contiguous before it becomes an array: torch gives the result the order of bytes that the frame had.
    return F.interpolate(square[None], (size, size), mode=interpolation, antialias=True)[0].contiguous().numpy()


def _whole_picture(frame: VideoFrame, stream: VideoStream, shorter_side: int | None) -> NDArray[np.uint8]:
    """A whole frame with square pixels, uint8 (h, w, 3), both even, as the coding demands."""
    pixels, stretch = _upright(frame, stream)
    height, width = Fraction(pixels.shape[0]), pixels.shape[1] * stretch
    scale = min(Fraction(1), shorter_side / min(height, width)) if shorter_side else Fraction(1)
    return _resized(pixels.numpy(), _even(height * scale), _even(width * scale))


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))


def _resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (height, width):
        return picture
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return (
        F.interpolate(planes, (height, width), mode="bicubic", antialias=True)[0].permute(1, 2, 0).contiguous().numpy()
    )


def encode_mp4(pictures: Sequence[NDArray[np.uint8]], rate: Fraction, *, quality: str, keyframe_every: int) -> bytes:
    """An MP4 file (H.264) of pictures (h, w, 3) of even sides, so many of them per second.

    Args:
        quality: x264's constant rate factor.
        keyframe_every: so many frames at least.
    """
    import av

    stream = io.BytesIO()
    height, width, _ = pictures[0].shape
    with av.open(stream, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=rate.limit_denominator(10_000))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.gop_size = keyframe_every
        # One thread: x264's choices depend on their number.
        video.options = {"crf": quality, "threads": "1", "bf": "0"}
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(_resized(picture, height, width), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return stream.getvalue()
