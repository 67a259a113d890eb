"""Pictures of any kind are the same pixels whichever way they come in, or they are unusable; and made smaller."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from xmr_e2e.data.config import Data
from xmr_e2e.data.images import center_square, load_square
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import load_image
from xmr_e2e.shards.media import (
    UnusableImage,
    check_decodes,
    decode_rgb,
    decode_whole,
    resize_to_jpeg,
    thumbnail,
)

SIDE = 32
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be turned by 90 degrees clockwise
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def sized(side: int) -> Data:
    """Options with pictures of this side."""
    return Data(Path("shards"), image_size=side, load_size=side)


def picture() -> Image.Image:
    """96 x 64, smooth, with a different corner each."""
    x, y = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 64))
    return Image.fromarray((np.stack([x, y, (1 - x) * y], axis=2) * 255).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, len(content) + 2) + content


def xmp_segment(document: str) -> bytes:
    return segment(0xFFE1, b"http://ns.adobe.com/xap/1.0/\0" + document.encode())


def jpeg_behind(first: bytes, says: bytes) -> bytes:
    """A JPEG in which the segment that says how it is to be turned comes behind others."""
    whole = encoded(picture(), "JPEG", quality=95)
    return whole[:2] + first + says + whole[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with_late_exif() -> bytes:
    whole = encoded(picture(), "PNG")
    return whole[:-12] + chunk(b"eXIf", TURNED.tobytes().removeprefix(b"Exif\0\0")) + whole[-12:]


def with_411_turned() -> bytes:
    """A JPEG whose chroma is sampled 4:4:1, as jpegtran makes it of a 4:1:1: of one colour, so that the order of its
    blocks, which is 4:2:0's, makes no difference."""
    data = bytearray(encoded(Image.new("RGB", (64, 64), (200, 60, 90)), "JPEG", subsampling="4:2:0"))
    data[data.index(b"\xff\xc0") + 11] = 0x14
    return bytes(data)


EXIF_SEGMENT = segment(0xFFE1, b"Exif\0\0" + TURNED.tobytes().removeprefix(b"Exif\0\0"))
XMP_SEGMENT = xmp_segment(XMP)
BEFORE = {
    "nothing": b"",
    "Photoshop's with a thumbnail's markers": segment(0xFFED, b"Photoshop 3.0\0" + b"\xff\xd8\xff\xda\xff\xd9" * 1000),
    "a colour profile": segment(0xFFE2, b"ICC_PROFILE\0\1\1" + bytes(6000)),
    "a comment": segment(0xFFFE, b"c" * 6000),
    "fill bytes": b"\xff\xff\xff",
}


def turned_files() -> dict[str, bytes]:
    """Files of the picture that are to be turned by 90 degrees clockwise."""
    whole = picture()
    deep = Image.fromarray(np.asarray(whole.convert("L")).astype(np.uint16) * 257)
    see_through = whole.convert("LA")
    see_through.putalpha(Image.linear_gradient("L").resize(whole.size))
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP)
    other: dict[str, Any] = {"save_all": True, "append_images": [whole.rotate(180)]}
    return {
        **{f"JPEG, EXIF behind {name}": jpeg_behind(first, EXIF_SEGMENT) for name, first in BEFORE.items()},
        **{f"JPEG, XMP behind {name}": jpeg_behind(first, XMP_SEGMENT) for name, first in BEFORE.items()},
        "JPEG, XMP element": jpeg_behind(b"", xmp_segment("<x><tiff:Orientation>6</tiff:Orientation></x>")),
        "JPEG, progressive": encoded(whole, "JPEG", progressive=True, exif=TURNED),
        "JPEG, grey": encoded(whole.convert("L"), "JPEG", exif=TURNED),
        "JPEG, CMYK": encoded(whole.convert("CMYK"), "JPEG", exif=TURNED),
        "MPO": encoded(whole, "MPO", exif=TURNED, **other),
        "PNG": encoded(whole, "PNG", exif=TURNED),
        "PNG, EXIF at the end": png_with_late_exif(),
        "PNG, XMP": encoded(whole, "PNG", pnginfo=text),
        "PNG, 16 bit": encoded(deep, "PNG", exif=TURNED),
        "PNG, grey and alpha": encoded(see_through, "PNG", exif=TURNED),
        "PNG, palette with transparency": encoded(whole.quantize(16), "PNG", transparency=3, exif=TURNED),
        "WebP": encoded(whole, "WEBP", lossless=True, exif=TURNED),
        "WebP, animated, XMP": encoded(whole, "WEBP", lossless=True, xmp=XMP.encode(), **other),
        "TIFF": encoded(whole, "TIFF", exif=TURNED),
        "TIFF, LZW": encoded(whole, "TIFF", exif=TURNED, compression="tiff_lzw"),
        "TIFF, 16 bit": encoded(deep, "TIFF", exif=TURNED),
    }


def upright_files() -> dict[str, bytes]:
    whole = picture()
    return {
        "JPEG": encoded(whole, "JPEG"),
        "JPEG, 4:4:4": encoded(whole, "JPEG", subsampling="4:4:4"),
        "JPEG, 4:1:1": encoded(whole, "JPEG", subsampling="4:1:1"),
        "JPEG, 4:4:1": with_411_turned(),
        "JPEG, EXIF that is cut": encoded(whole, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        "GIF, animated": encoded(whole, "GIF", save_all=True, append_images=[whole.rotate(180)]),
        "BMP": encoded(whole, "BMP"),
        "TIFF, one bit": encoded(whole.convert("1"), "TIFF"),
    }


FILES = {**turned_files(), **upright_files()}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", FILES)
def test_a_picture_is_the_same_whichever_door_it_comes_through(name: str) -> None:
    data = FILES[name]
    upright = decode_rgb(data)
    assert upright.size == ((64, 96) if name in turned_files() else (96, 64) if "4:4:1" not in name else (64, 64))
    expected = center_square(upright, SIDE).numpy().astype(int)
    doors = {
        "training": load_square(data, SIDE, where="here"),
        "what --resize encodes": center_square(decode_whole(data), SIDE),
        "embed, bytes": load_image(data, sized(SIDE)),
        "embed, an opened image": load_image(Image.open(io.BytesIO(data)), sized(SIDE)),
    }
    for door, square in doors.items():
        # the JPEG decoders of simplejpeg and Pillow are of one family, but need not be of one version
        assert np.abs(square.numpy() - expected).max() <= 2, door
    assert Image.open(io.BytesIO(thumbnail(data, SIDE))).size[0] == round(SIDE * upright.width / max(upright.size))
    kind = name.partition(",")[0].lower()
    assert check_decodes(data) == {"jpeg": "jpg", "mpo": "jpg", "tiff": "tif"}.get(kind, kind)


def test_turned_pictures_show_what_the_camera_saw() -> None:
    expected = np.asarray(picture().transpose(Image.Transpose.ROTATE_270), int)
    for name in ("JPEG, EXIF behind a comment", "PNG", "TIFF", "PNG, XMP"):
        assert np.abs(np.asarray(decode_rgb(FILES[name]), int) - expected).max() < 12, name


def embed_opened(data: bytes) -> object:
    try:
        image = Image.open(io.BytesIO(data))
    except Exception as error:  # Pillow's, before this project sees anything
        raise UnusableImage(repr(error)) from error
    return load_image(image, sized(16))


DOORS: dict[str, Callable[[bytes], object]] = {
    "decode_rgb": decode_rgb,
    "build": check_decodes,
    "build --resize": lambda data: resize_to_jpeg(decode_whole(data), 16),
    "thumbnail": lambda data: thumbnail(data, 16),
    "training": lambda data: load_square(data, 16, where="here"),
    "embed, an opened image": embed_opened,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damage_is_unusable_or_decodes_at_every_door(format: str) -> None:
    random = np.random.default_rng(0)
    whole = encoded(picture(), format)
    found = set()
    for attempt in range(60):
        data = bytearray(whole[: random.integers(1, len(whole))] if attempt % 3 == 0 else whole)
        for place in random.integers(0, min(len(data), 400), attempt % 5):
            data[place] = random.integers(256)
        for door in DOORS.values():
            try:
                door(bytes(data))
                found.add("decodes")
            except (UnusableImage, XmrError) as error:
                assert str(error)
                found.add("unusable")
    assert found == {"decodes", "unusable"}


@pytest.mark.parametrize(
    "raised",
    [KeyError(6), struct.error("short"), MemoryError(), RecursionError("deep"), OverflowError("large"), EOFError()],
)
def test_whatever_a_decoder_raises_the_image_is_unusable(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    data = encoded(picture(), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    for door in DOORS.values():
        with pytest.raises((UnusableImage, XmrError), match=r"cannot be decoded: \w"):
            door(data)


@pytest.mark.parametrize(("mode", "options"), [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {})])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_a_cut_jpeg_with_an_end_mark_is_not_built_and_can_be_read_where_it_was(
    share: float, mode: str, options: dict[str, Any]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
    cut = whole[: int(len(whole) * share)] + b"\xff\xd9"
    for build in (check_decodes, decode_whole):
        build(whole)
        with pytest.raises(UnusableImage, match="the JPEG is cut, a part of the picture is missing"):
            build(cut)
    assert load_square(cut, 16, where="here").shape == (3, 16, 16)  # in shards that were built before this was known


@pytest.mark.parametrize(("size", "resize", "result"), [((70_000, 300), 512, "70000 x 300"), ((100, 66_000), 60, None),
                                                        ((131_002, 2), 1, "65501 x 1")])  # fmt: skip
def test_what_is_too_long_for_a_jpeg_is_unusable_with_its_size(
    size: tuple[int, int], resize: int, result: str | None
) -> None:
    image = Image.new("RGB", size)
    if result is None:
        assert Image.open(io.BytesIO(resize_to_jpeg(image, resize))).size == (60, 39_600)
        return
    with pytest.raises(UnusableImage, match=rf"{size[0]} x {size[1]} pixels are too long .*: {result} is more"):
        resize_to_jpeg(image, resize)


@pytest.mark.parametrize(("size", "expected"), [((400, 300), (160, 120)), ((3, 900), (1, 160)), ((50, 20), (50, 20))])
def test_thumbnails_are_jpegs_of_at_most_so_many_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    data = encoded(Image.new("RGBA", size, (200, 10, 10, 128)), "PNG")
    small = Image.open(io.BytesIO(thumbnail(data, 160)))
    assert (small.format, small.size) == ("JPEG", expected)


def test_an_image_without_pixels_is_named() -> None:
    with pytest.raises(XmrError, match="the given image 0 x 5: has no pixels"):
        load_image(Image.new("RGB", (0, 5)), sized(16))


def test_an_opened_image_of_a_cut_file_is_named() -> None:
    whole = encoded(picture(), "PNG")
    with pytest.raises(XmrError, match="the given image cannot be decoded"):
        load_image(Image.open(io.BytesIO(whole[: len(whole) // 2])), sized(16))
