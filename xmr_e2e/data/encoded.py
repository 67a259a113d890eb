"""Pictures that the loader hands over as files, to be decoded where the networks run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from xmr_e2e.data.images import Interpolation, resize_square
from xmr_e2e.data.inputs import on_device
from xmr_e2e.errors import XmrError

Decoding: TypeAlias = Literal["auto", "cpu", "device"]


class EncodedImages(NamedTuple):
    """n pictures, each as its file or, where it is of a kind that not every decoder knows, as its square."""

    files: Tensor
    """(b,) uint8: the files, one behind the other"""
    sizes: Tensor
    """(n,) int64: bytes of each file; 0 for a picture that is a square"""
    squares: Tensor
    """(m, 3, side, side) uint8: those that are squares, in their order"""


def pack_images(files: Sequence[bytes], squares: Sequence[Tensor], side: int) -> EncodedImages:
    """The pictures of a batch.

    files: of each picture; empty for those that are squares, of this side.
    """
    sizes = torch.tensor([len(file) for file in files], dtype=torch.int64)
    content = torch.from_numpy(np.frombuffer(b"".join(files), np.uint8).copy())
    stacked = torch.stack([*squares]) if squares else torch.empty(0, 3, side, side, dtype=torch.uint8)
    return EncodedImages(content, sizes, stacked)


def decode_images(
    images: EncodedImages, device: torch.device, interpolation: Interpolation, decode_here: Callable[[int], Tensor]
) -> Tensor:
    """Decode the files, and resize them to squares of one side: uint8 (n, 3, side, side) on the device.

    decode_here: the square of the picture of this number by the CPU's decoder, for files that the device's one refuses.
    """
    side = images.squares.shape[-1]
    result = torch.empty(len(images.sizes), 3, side, side, dtype=torch.uint8, device=device)
    sizes = images.sizes.tolist()
    decoded = iter(_decode_all([file for file in images.files.split(sizes) if len(file)], device))
    squares = iter(images.squares)
    for number, size in enumerate(sizes):
        pixels = next(decoded) if size else None
        if pixels is not None:
            result[number] = resize_square(pixels, side, interpolation)
        else:
            result[number] = on_device(decode_here(number) if size else next(squares), device)
    return result


def can_decode_on_gpu() -> bool:
    """True where there is a GPU on which torchvision decodes JPEG pictures."""
    return torch.cuda.is_available() and not _refusal()


def decodes_later(decoding: Decoding) -> bool:
    """True if the loader hands over files, for the training process to decode them.

    Raises:
        XmrError: that is wanted of a GPU that cannot.
    """
    if decoding == "auto":
        return can_decode_on_gpu()
    if decoding == "device" and torch.cuda.is_available() and _refusal():
        raise XmrError(
            f"--data.decode device: torchvision cannot decode JPEG on this GPU ({_refusal()}); use --data.decode cpu, "
            "and resized shards (--resize of the builders) where decoding takes longer than the training's steps"
        )
    return decoding == "device"


@cache
def _refusal() -> str:
    """The complaint of torchvision where it cannot decode a JPEG on the GPU; empty where it can."""
    jpeg = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    try:
        _decode([torch.from_numpy(np.frombuffer(jpeg, np.uint8).copy())], torch.device("cuda"))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def _decode_all(files: Sequence[Tensor], device: torch.device) -> list[Tensor | None]:
    """RGB, uint8 (3, h, w) each; None for a file that the decoder refuses."""
    if not files:
        return []
    try:
        return [*_decode(files, device)]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # it gives all of them or none
        return [None] if len(files) == 1 else [_decode_all([file], device)[0] for file in files]


def _decode(files: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    # Here: workers of the loader, which import this module, have no use for it.
    from torchvision.io import ImageReadMode, decode_jpeg

    found: list[Tensor] = decode_jpeg([*files], mode=ImageReadMode.RGB, device=device)
    return found
