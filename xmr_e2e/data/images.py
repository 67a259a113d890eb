"""Image bytes to uint8 arrays of one size."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.media import MAX_PIXELS, UnusableImage, decode_rgb


def load_square(data: bytes, side: int, *, where: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode, and resize the centred square (whose side is the picture's shorter side) to (side, side, 3), RGB,
    antialiased.

    Raises:
        XmrError: bytes that cannot be decoded or a picture above the pixel cap; begins with `where`.
    """
    try:
        image = _decode(data, side, max_pixels)
    except UnusableImage as error:
        raise XmrError(f"{where}: the image {error}") from error
    return centre_square(image, side)


def centre_square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The centred square of an RGB image, resized to (side, side, 3), antialiased."""
    shorter = min(image.size)
    left, top = (image.width - shorter) / 2, (image.height - shorter) / 2
    box = (left, top, left + shorter, top + shorter)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def _decode(data: bytes, side: int, max_pixels: int) -> Image.Image:
    """simplejpeg for plain JPEGs, which is faster; Pillow for all else and for whatever simplejpeg refuses."""
    if data[:2] != b"\xff\xd8" or _is_turned(data):
        return decode_rgb(data, max_pixels=max_pixels)
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > max_pixels or colours in ("CMYK", "YCCK"):
            return decode_rgb(data, max_pixels=max_pixels)
        # Scaling inside the JPEG decoder pays from a factor of 2 on; below, it is slower than full decoding.
        scaled = {"min_height": side, "min_width": side, "min_factor": 2.0} if min(height, width) >= 2 * side else {}
        return Image.fromarray(simplejpeg.decode_jpeg(data, "rgb", **scaled))
    except ValueError:
        return decode_rgb(data, max_pixels=max_pixels)


def _is_turned(jpeg: bytes) -> bool:
    """Whether EXIF says that the picture must be turned or mirrored, which Pillow does and simplejpeg does not."""
    if b"Exif\0\0" not in jpeg[:4096]:
        return False
    try:
        return Image.open(io.BytesIO(jpeg)).getexif().get(ExifTags.Base.Orientation, 1) != 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True  # Pillow's full decoding will say what is wrong with it
