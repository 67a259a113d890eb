"""Items as a person gives them (paths, bytes, arrays) to what networks read: as a split's samples are in evaluation."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xmr_e2e.data.config import Data
from xmr_e2e.data.images import center_square, load_square
from xmr_e2e.data.inputs import InputKind, Waveforms
from xmr_e2e.data.shapes import decode_points
from xmr_e2e.data.sounds import sound_windows
from xmr_e2e.data.videos import decode_frames
from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes
from xmr_e2e.shards.media import IMAGE_BYTES, UnusableImage, upright_rgb
from xmr_e2e.shards.schema import IMAGE_SUFFIXES, MEDIA_EXTENSIONS

File: TypeAlias = Path | str | bytes
Picture: TypeAlias = File | Image.Image
Media: TypeAlias = File | NDArray[Any]
"""a sound, (t,) floating-point samples in [-1, 1]; a video, (f, h, w, 3) uint8, its frames; a shape, (p, 3), points"""
PICTURES = (Path, str, bytes, Image.Image)
MEDIA = (Path, str, bytes, np.ndarray)
NOUNS = {"image": "picture", "audio": "sound", "video": "video", "shape3d": "shape"}
"""modality -> what its files are called"""
FILE_SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": IMAGE_SUFFIXES,
    **{modality: tuple(f".{each}" for each in extensions) for modality, extensions in MEDIA_EXTENSIONS.items()},
}
"""modality -> the endings of its files, in lower case"""
RAW_KINDS: dict[str, InputKind] = {
    "image": "pixels", "text": "tokens", "audio": "waveform", "video": "frames", "shape3d": "points"
}  # fmt: skip
"""modality -> what a tower reads of it that takes files, and not features of them"""
MEDIA_BYTES = 2**31
"""of a file of sound, video or shape, at most: it is held in memory"""
_GIVEN = "the given bytes"
_FLOAT_WAV = 3
"""WAV's number of the coding as IEEE floats"""
Decoded = TypeVar("Decoded")


def modality_of(path: PurePath) -> str | None:
    """The modality of a file by its ending; None for one that is none of them, such as a text."""
    return next((name for name, endings in FILE_SUFFIXES.items() if path.suffix.lower() in endings), None)


def as_items(given: Any, types: tuple[type, ...], expected: str) -> list[Any]:
    """A list of items; a single one is a list of one. Raises XmrError for something else."""
    if isinstance(given, types):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise XmrError(f"{expected}, one or a list of them, not {type(given).__name__}")
    items = list(given)
    for number, item in enumerate(items):
        if not isinstance(item, types):
            raise XmrError(f"{expected}, and item {number} is {type(item).__name__}: {str(item)[:60]!r}")
    return items


def load_images(images: Sequence[Picture], data: Data) -> Tensor:
    """Pictures to uint8 (n, 3, load_size, load_size)."""
    return torch.stack([load_image(image, data) for image in images])


def load_image(image: Picture, data: Data) -> Tensor:
    """A picture to uint8 (3, load_size, load_size). Raises XmrError for one that cannot be read; names it."""
    side, how = data.load_size, data.interpolation
    if isinstance(image, Image.Image):
        try:
            return center_square(upright_rgb(image), side, how)
        except UnusableImage as error:  # opened and not yet decoded, such an image may be of a damaged file
            raise XmrError(f"the given image {error}") from error
    content, where = _content(image, IMAGE_BYTES)
    return load_square(content, side, where=where, interpolation=how)


def load_sounds(sounds: Sequence[Media], data: Data, rate: int | None = None) -> Waveforms:
    """The evenly spaced windows of each sound.

    rate: of sounds that are given as arrays; by default the one at which the model hears.
    """
    options = data.audio

    def decode(content: bytes, where: str, _: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        count, samples = options.windows, options.samples
        return sound_windows(content, where, samples=samples, count=count, rate=options.rate, bounds=data.media)

    found = [_decode(sound, decode, lambda samples: _as_wav(samples, rate or options.rate)) for sound in sounds]
    return Waveforms(*(torch.from_numpy(np.stack(column)) for column in zip(*found)))


def load_clips(videos: Sequence[Media], data: Data) -> Tensor:
    """The middle frames of equal parts of each video: uint8 (n, f, 3, side, side), of `Data.frame_load_size`."""

    def decode(content: bytes, where: str, _: str) -> Tensor:
        count, size, how = data.video.frames, data.frame_load_size, data.interpolation
        frames = decode_frames(content, where, frames=count, size=size, bounds=data.media, interpolation=how)
        return torch.from_numpy(frames)

    clips = [
        _choose_frames(video, data) if isinstance(video, np.ndarray) else _decode(video, decode) for video in videos
    ]
    return torch.stack(clips)


def load_shapes(shapes: Sequence[Media], data: Data, extension: str = "") -> Tensor:
    """Points of each shape's surface, always the same ones: float32 (n, p, 3).

    extension: of shapes that are given as bytes.
    """

    def decode(content: bytes, where: str, own: str) -> NDArray[np.float32]:
        points = data.shape3d.points
        return decode_points(content, where, points=points, extension=own or extension, seed=0, bounds=data.media)

    return torch.from_numpy(np.stack([_decode(shape, decode, _as_ply) for shape in shapes]))


LOADERS: dict[str, Callable[..., Any]] = {
    "image": load_images,
    "audio": load_sounds,
    "video": load_clips,
    "shape3d": load_shapes,
}
"""modality -> (files, data) to what a loader gives"""


def joined(batches: Sequence[Any]) -> Any:
    """Several of what a loader gives, as one."""
    if isinstance(batches[0], Tensor):
        return torch.cat([*batches])
    return Waveforms(*(torch.cat(parts) for parts in zip(*(batch[:2] for batch in batches))))


def _decode(
    item: Media,
    decode: Callable[[bytes, str, str], Decoded],
    as_file: Callable[[NDArray[Any]], bytes] = lambda array: b"",
) -> Decoded:
    """The result of a decoder on an item's bytes, of words for errors, and of its extension where that is known.

    as_file: the file that holds an array's values, so that there is one way for all.
    """
    if isinstance(item, np.ndarray):
        return decode(as_file(item), "the given array", "")
    extension = "" if isinstance(item, bytes) else Path(item).suffix.lower().removeprefix(".")
    return decode(*_content(item, MEDIA_BYTES), extension)


def _content(item: File, most: int) -> tuple[bytes, str]:
    """An item's bytes, and its name for errors."""
    if isinstance(item, bytes):
        return item, _GIVEN
    try:
        return read_bytes(Path(item), most=most), str(item)
    except OSError as error:
        raise XmrError(f"{item}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise XmrError(f"{str(item)!r} is no path: {error}") from error


def _as_wav(samples: NDArray[Any], rate: int) -> bytes:
    """Mono samples (t,) as a WAV file of floating-point numbers."""
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise _wrong("a sound", "samples (t,) of floating point in [-1, 1], mono", samples)
    body = samples.astype("<f4").tobytes()
    about = struct.pack("<HHIIHH", _FLOAT_WAV, 1, rate, 4 * rate, 4, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", len(about)) + about + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _as_ply(points: NDArray[Any]) -> bytes:
    """Points (p, 3) as a PLY file without faces."""
    if points.ndim != 2 or points.shape[1] != 3 or not np.issubdtype(points.dtype, np.number):
        raise _wrong("a shape", "points (p, 3)", points)
    axes = "".join(f"property double {axis}\n" for axis in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{axes}end_header\n"
    return head.encode() + points.astype("<f8").tobytes()


def _choose_frames(frames: NDArray[Any], data: Data) -> Tensor:
    """The frames in the middle of equal parts of a clip (f, h, w, 3), their squares: uint8 (n, 3, side, side)."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise _wrong("a video", "frames (f, h, w, 3) of uint8, RGB", frames)
    count = data.video.frames
    chosen = frames[((np.arange(count) + 0.5) * len(frames) / count).astype(int)]
    side, how = data.frame_load_size, data.interpolation
    return torch.stack([center_square(Image.fromarray(frame), side, how) for frame in chosen])


def _wrong(kind: str, expected: str, array: NDArray[Any]) -> XmrError:
    return XmrError(f"{kind} as an array has {expected}, not {array.shape} of {array.dtype}")
