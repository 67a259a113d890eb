"""Image bytes: what they really are, whether they can be used, and smaller versions of them."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image

# 30,000 x 30,000 pixels are 2.7 GB once decoded; the largest cameras stay below this.
MAX_PIXELS = 120_000_000
# Twice Pillow's MAX_IMAGE_PIXELS, where its warning becomes an error.
PILLOW_MAX_PIXELS = 178_956_970
RESIZED_QUALITY = 90
THUMBNAIL_QUALITY = 82

_EXTENSION_OF_FORMAT = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with a second picture behind it, as phones write it
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
}
# EXIF orientation -> what sets the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImage(Exception):
    """An image that cannot be decoded, and why. Whoever knows file and key adds them."""


def image_extension(data: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    """The extension that fits what the bytes are, whatever the file is called. Reads the header only.

    Raises:
        UnusableImage: empty, not an image, of a format that is not supported, or above the pixel cap.
    """
    return _EXTENSION_OF_FORMAT[str(_open_header(data, max_pixels).format)]


def check_decodes(data: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    """The extension that fits what the bytes are, once all of them have been decoded.

    A JPEG is decoded to an eighth of its size: all its data are read, in two thirds of the time.

    Raises:
        UnusableImage: as `decode_rgb`.
    """
    image = _open_header(data, max_pixels)
    if image.format == "JPEG":
        image.draft(None, (1, 1))
    _load_rgb(image)
    return _EXTENSION_OF_FORMAT[str(image.format)]


def decode_rgb(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode to an upright RGB image: EXIF orientation applied, transparency laid on white, CMYK and grey converted.

    Raises:
        UnusableImage: as `image_extension`, or the data ends early.
    """
    return _load_rgb(_open_header(data, max_pixels))


def _load_rgb(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return upright_rgb(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnusableImage(f"cannot be decoded: {error}") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """A decoded image as upright RGB: what `decode_rgb` does after decoding."""
    image = _upright(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip at 255
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def resize_to_jpeg(image: Image.Image, shorter_side: int) -> bytes:
    """The image as JPEG with its shorter side at most this many pixels; smaller images keep their size."""
    scale = shorter_side / min(image.size)
    if scale < 1:
        width, height = (max(shorter_side, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=RESIZED_QUALITY)
    return stream.getvalue()


def thumbnail(data: bytes, side: int) -> bytes:
    """A small JPEG of an image, its longer side at most so many pixels.

    Raises:
        UnusableImage: as `decode_rgb`.
    """
    image = decode_rgb(data)
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return stream.getvalue()


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the EXIF block anew, and fails where any other field of it is damaged.
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _open_header(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise UnusableImage("the file is empty (zero bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap decides, below
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UnusableImage(f"above the cap of {max_pixels:,} pixels: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnusableImage("not an image that can be read") from error
    if image.format not in _EXTENSION_OF_FORMAT:
        raise UnusableImage(f"image format {image.format} is not supported; convert it to JPEG or PNG")
    if image.width * image.height > max_pixels:
        raise UnusableImage(f"{image.width} x {image.height} pixels are above the cap of {max_pixels:,} pixels")
    return image
