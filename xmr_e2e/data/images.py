"""Image bytes to uint8 arrays of one size."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.media import MAX_PIXELS, UnusableImage, decode_rgb, is_turned_jpeg

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
OVERSAMPLING = 4
"""What is left to resize when the JPEG decoder has scaled, as a factor: its scaling is coarser than ours, and with less
the result is more than 35 dB of PSNR from that of full decoding for some pictures (docs/performance.md)."""


def load_square(
    data: bytes,
    side: int,
    *,
    where: str,
    max_pixels: int = MAX_PIXELS,
    interpolation: Interpolation = "bilinear",
    out: Tensor | None = None,
) -> Tensor:
    """Decode, and resize the centred square (whose side is the picture's shorter side) to uint8 (3, side, side), RGB,
    antialiased.

    out: where the result is written, if it has a place already.

    Raises:
        XmrError: bytes that cannot be decoded or a picture above the pixel cap; begins with `where`.
    """
    try:
        pixels = _decode(data, side, max_pixels)
    except UnusableImage as error:
        raise XmrError(f"{where}: the image {error}") from error
    return _resize(pixels, side, interpolation, out)


def center_square(image: Image.Image, side: int, interpolation: Interpolation = "bilinear") -> Tensor:
    """The centred square of an RGB image, resized to uint8 (3, side, side), antialiased."""
    return _resize(np.array(image), side, interpolation)


def _resize(pixels: NDArray[np.uint8], side: int, interpolation: Interpolation, out: Tensor | None = None) -> Tensor:
    """uint8 (h, w, 3) to its centred square, (3, side, side)."""
    square = _center_square(torch.from_numpy(pixels).permute(2, 0, 1))
    # torch resizes uint8 in this layout in half of Pillow's time; the two differ by rounding.
    resized = F.interpolate(square[None], (side, side), mode=interpolation, antialias=True)[0]
    return resized.contiguous() if out is None else out.copy_(resized)


def resize_square(pixels: Tensor, side: int, interpolation: Interpolation) -> Tensor:
    """uint8 (3, h, w) to its centred square, uint8 (3, side, side), antialiased, on any device."""
    # GPUs resize numbers with fractions alone; bicubic ones go beyond the range.
    square = _center_square(pixels)[None].float()
    resized = F.interpolate(square, (side, side), mode=interpolation, antialias=True)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


def _center_square(pixels: Tensor) -> Tensor:
    """(3, h, w) to (3, s, s), where s is the shorter side."""
    height, width = pixels.shape[1:]
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    return pixels[:, top : top + shorter, left : left + shorter]


def is_plain_jpeg(data: bytes, max_pixels: int = MAX_PIXELS) -> bool:
    """True for a JPEG that every decoder reads alike: upright, grey or of three colors, not too large, with an end."""
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9" or is_turned_jpeg(data):
        return False
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    except Exception:  # as in `_decode`
        return False
    return height * width <= max_pixels and colors in ("YCbCr", "Gray")


def _decode(data: bytes, side: int, max_pixels: int) -> NDArray[np.uint8]:
    """simplejpeg for plain JPEGs, which is faster; Pillow for all else and for whatever simplejpeg refuses."""
    if data[:2] != b"\xff\xd8" or is_turned_jpeg(data):
        return _decode_with_pillow(data, max_pixels)
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > max_pixels or colors in ("CMYK", "YCCK"):
            return _decode_with_pillow(data, max_pixels)
        # Scaling inside the JPEG decoder pays from a factor of 2 on; below, it is slower than full decoding.
        least = OVERSAMPLING * side
        scaled = {"min_height": least, "min_width": least, "min_factor": 2.0} if min(height, width) >= 2 * least else {}
        return simplejpeg.decode_jpeg(data, "rgb", **scaled)
    except Exception:  # ValueError for damage, KeyError for subsampling without a name, …: Pillow knows more kinds
        return _decode_with_pillow(data, max_pixels)


def _decode_with_pillow(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    return np.array(decode_rgb(data, max_pixels=max_pixels))
