"""Image bytes: what they really are, whether they can be used, and smaller versions of them."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

# 30,000 x 30,000 pixels are 2.7 GB once decoded; the largest cameras stay below this.
MAX_PIXELS = 120_000_000
IMAGE_BYTES = 2**30
"""of a picture's file, at most: a thousandth of it is usual"""
PILLOW_MAX_PIXELS = 178_956_970
"""Twice Pillow's MAX_IMAGE_PIXELS, where its warning becomes an error. For pictures out of shards, which may have been
built with a higher cap than MAX_PIXELS."""
MAX_SIDE = 65_535
"""Pillow takes a minute for a picture of one pixel's width and a hundred million's height."""
MAX_SCANNED_PIXELS = 2_000_000_000
"""Pixels times scans of a JPEG, whose decoding goes over the whole picture for each scan: four seconds. Encoders write
about ten scans; a file of 200 kB can have a thousand."""
JPEG_MAX_SIDE = 65_500
"""libjpeg writes no longer side."""
RESIZED_QUALITY = 90
THUMBNAIL_QUALITY = 82

_JPEG_FORMATS = ("JPEG", "MPO")
_EXTENSION_OF_FORMAT = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with a second picture behind it, as phones write it
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
}
_READ_FORMATS = tuple(name for name in _EXTENSION_OF_FORMAT if name != "MPO")
"""Parsers that see foreign bytes; that of JPEG finds out itself that it has an MPO before it."""
_SEGMENT = struct.Struct(">HH")
"""How a segment of a JPEG begins: its marker and its length, which counts itself."""
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]", re.DOTALL)
"""The beginning of a segment; not bytes of a scan in which the decoder goes on."""
_SCAN, _APP1 = 0xFFDA, 0xFFE1
"""Markers: the first scan, and where EXIF and XMP lie."""
# EXIF orientation -> what sets the picture upright.
_TURNS: dict[object, Image.Transpose] = {
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


def count_pixels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """The pixels that an image has once it is decoded. Reads the header only.

    Raises:
        UnusableImage: empty, not an image of a format that is supported, above the pixel cap, or longer than MAX_SIDE.
    """
    image = _open_header(data, max_pixels)
    return image.width * image.height


def check_decodes(data: bytes, *, max_pixels: int = MAX_PIXELS) -> str:
    """The extension that fits what the bytes are, once all of them have been decoded.

    A JPEG is decoded to the brightness of an eighth of its size: all its data are read, in half of the time.

    Raises:
        UnusableImage: as `decode_whole`.
    """
    image = _open_header(data, max_pixels)
    extension = _EXTENSION_OF_FORMAT[str(image.format)]
    if image.format in _JPEG_FORMATS and _decode_strictly(image, data, "gray", min_factor=8.0) is not None:
        return extension
    upright_rgb(image)
    return extension


def decode_rgb(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode to an upright RGB image: EXIF orientation applied, transparency laid on white, CMYK and grey converted.

    Raises:
        UnusableImage: as `count_pixels`, or the data ends early or is damaged.
    """
    return upright_rgb(_open_header(data, max_pixels))


def decode_whole(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """`decode_rgb` for what is to be kept: the same pixels, and stricter.

    Raises:
        UnusableImage: as `decode_rgb`, or a JPEG of which a part is missing though it was closed by an end mark, as
            some programs that download or repair files do; decoders fill the rest with grey.
    """
    image = _open_header(data, max_pixels)
    if image.format in _JPEG_FORMATS:
        pixels = _decode_strictly(image, data, "rgb")
        if pixels is not None and image.mode != "CMYK":
            return _turn(Image.fromarray(pixels), _orientation(image))
    return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image as upright RGB: what `decode_rgb` does after reading the header.

    Raises:
        UnusableImage: it cannot be decoded, or has no pixels.
    """
    with _decoding():
        image.load()  # before its orientation is asked for: TIFF files are turned while they are loaded
        if 0 in image.size:
            raise UnusableImage(f"{image.width} x {image.height}: has no pixels")
        image = _turn(image, _orientation(image))
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip at 255
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return _without_orientation(image.convert("RGB"))


def resize_to_jpeg(image: Image.Image, shorter_side: int) -> bytes:
    """The image as JPEG with its shorter side at most this many pixels; smaller images keep their size.

    Raises:
        UnusableImage: the result is too long for a JPEG. Made shorter, its shorter side would not be what was asked
            for, and cut, texts and regions would speak of what is not there.
    """
    scale = min(1, shorter_side / min(image.size))
    least = min(shorter_side, *image.size)
    width, height = (max(least, round(side * scale)) for side in image.size)
    if max(width, height) > JPEG_MAX_SIDE:
        raise UnusableImage(
            f"{image.width} x {image.height} pixels are too long to be resized: {width} x {height} is more than the "
            f"{JPEG_MAX_SIDE:,} that a JPEG can have; cut it into pieces, or build without --resize"
        )
    if scale < 1:
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=RESIZED_QUALITY)
    return stream.getvalue()


def thumbnail(data: bytes, side: int, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """A small JPEG of an image, its longer side at most so many pixels.

    Raises:
        UnusableImage: as `decode_rgb`.
    """
    image = decode_rgb(data, max_pixels=max_pixels)
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return stream.getvalue()


def save_picture(image: Image.Image, path: Path) -> None:
    """Write an image that was drawn, in the format of the file's suffix; the file is whole or not there.

    Raises:
        XmrError: the format cannot hold it, such as a JPEG that is too long.
        OSError: it cannot be written; has the file's name.
    """
    stream = io.BytesIO()
    try:
        image.save(stream, Image.registered_extensions()[path.suffix.lower()])
    except Exception as error:  # of an encoder
        raise XmrError(f"{path}: {image.width} x {image.height} pixels cannot be written as {path.suffix}: {error}; "
                       "draw fewer pictures, or choose .png") from error  # fmt: skip
    write_atomically(path, stream.getvalue())


def is_turned_jpeg(data: bytes) -> bool:
    """True for a JPEG whose EXIF or XMP says it must be turned or mirrored to stand upright: as Pillow reads it."""
    if not _may_be_turned(data):
        return False
    try:
        return _orientation(_open_header(data, PILLOW_MAX_PIXELS)) in _TURNS
    except UnusableImage:
        return True  # decoding it with Pillow will say what is wrong


def _may_be_turned(jpeg: bytes) -> bool:
    """True if it pays to ask Pillow, which takes longer: a segment before the first scan is EXIF or an orientation in
    XMP, or the segments are not one behind the other."""
    place = 2
    with suppress(struct.error):  # the bytes have ended
        while True:
            marker, length = _SEGMENT.unpack_from(jpeg, place)
            if marker == _SCAN:
                return False
            if not 0xFF00 < marker < 0xFFFF:
                return True
            if marker == _APP1:
                segment = jpeg[place + 4 : place + 2 + length]
                if segment.startswith(b"Exif") or b"tiff:Orientation" in segment:
                    return True
            place += 2 + length
    return True


def _orientation(image: Image.Image) -> object:
    """EXIF's number of an orientation, or XMP's where EXIF has none; 1 is upright."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises all kinds of errors for damaged EXIF, which must not cost the picture
        return 1


def _turn(image: Image.Image, orientation: object) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the EXIF block again, and fails where any other field of it is damaged.
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _without_orientation(image: Image.Image) -> Image.Image:
    """The same image without EXIF and XMP, which a turned copy keeps: who is given it would turn it again."""
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        image.info.pop(name, None)
    return image


def _decode_strictly(header: Image.Image, data: bytes, colors: str, **scaling: float) -> NDArray[np.uint8] | None:
    """A JPEG's pixels as they are stored, CMYK where it is that; None where Pillow is to decode it: damaged, or of a
    kind that simplejpeg does not know.

    Raises:
        UnusableImage: its data end before the picture does.
    """
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "cmyk" if header.mode == "CMYK" else colors, **scaling)
        return pixels
    except Exception as error:  # KeyError among them, for chroma subsampling that it has no name for
        if "premature end" in str(error).lower():
            raise UnusableImage(
                f"cannot be decoded: the JPEG is cut, a part of the picture is missing ({error})"
            ) from error
        return None


@contextmanager
def _decoding() -> Iterator[None]:
    """Raise a decoder's errors for damaged bytes as UnusableImage: each kind of damage has another type of error."""
    try:
        yield
    except UnusableImage:
        raise
    except Exception as error:
        known = isinstance(error, (OSError, ValueError, SyntaxError, EOFError)) and str(error)
        raise UnusableImage(f"cannot be decoded: {known or repr(error)}") from error


def _open_header(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise UnusableImage("the file is empty (zero bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap decides, below
            image = Image.open(io.BytesIO(data), formats=_READ_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnusableImage(f"above the cap of {max_pixels:,} pixels: {error}") from error
    except Exception as error:  # of damaged headers, nearly any
        raise UnusableImage("not an image that can be read: it is none of JPEG, PNG, WebP, GIF, BMP and TIFF, or "
                            "damaged") from error  # fmt: skip
    if image.width * image.height > max_pixels:
        raise UnusableImage(f"{image.width} x {image.height} pixels are above the cap of {max_pixels:,} pixels")
    if max(image.size) > MAX_SIDE:
        raise UnusableImage(f"{image.width} x {image.height} pixels: a side is longer than {MAX_SIDE:,}")
    if image.format in _JPEG_FORMATS:
        most = max(1, MAX_SCANNED_PIXELS // max(1, image.width * image.height))
        if _has_more_scans(data, most):
            raise UnusableImage(f"a JPEG of more than {most} scans, which takes long to decode; save it again")
    return image


def _has_more_scans(jpeg: bytes, most: int) -> bool:
    """True for a JPEG with more than so many scans before its end.

    The marker can stand within other segments as well, such as a thumbnail's, and behind the end.
    """
    if jpeg.count(b"\xff\xda") <= most:  # of nearly all files
        return False
    scans, place = 0, 2
    while scans <= most:
        found = _MARKER.search(jpeg, place)
        if found is None or found[0][-1] == 0xD9:
            return False
        scans += found[0][-1] == 0xDA
        place = found.end()
        if place + 2 <= len(jpeg):
            place += int.from_bytes(jpeg[place : place + 2], "big")
    return True
