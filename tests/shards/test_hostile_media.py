"""Pictures that are made to harm whoever decodes them: as an upload, in a build, in an index."""

from __future__ import annotations

import io
import os
import resource
import shutil
import struct
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

import xmr_e2e
from tests.helpers.fuzzing import damaged, fuzzed
from xmr_e2e.cli import main
from xmr_e2e.data.images import load_square
from xmr_e2e.errors import XmrError
from xmr_e2e.search.index import Index
from xmr_e2e.search.indexing import make_index
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.media import (
    UnusableImage,
    check_decodes,
    count_pixels,
    decode_rgb,
    decode_whole,
    is_turned_jpeg,
    thumbnail,
)

pytest_plugins = ["tests.helpers.searched"]


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def long_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, pixels = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), zlib.compress(bytes((width + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, each of a few dozen bytes."""
    whole = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * scans + b"\xff\xd9"


def damaged_tiff() -> bytes:
    """Its strips' offsets are text: Pillow raises a TypeError."""
    whole = bytearray(encoded(Image.new("RGB", (8, 8)), "TIFF"))
    (start,) = struct.unpack_from("<I", whole, 4)
    for place in range(start + 2, start + 2 + 12 * whole[start], 12):
        if struct.unpack_from("<H", whole, place)[0] == 273:
            struct.pack_into("<H", whole, place + 2, 2)
    return bytes(whole)


DECODE = (check_decodes, decode_rgb, decode_whole, lambda data: thumbnail(data, 16))
HARMFUL: dict[str, Callable[[], bytes]] = {
    "wide": partial(long_png, 119_000_000, 1),
    "high": partial(long_png, 1, 119_000_000),
    "scans": partial(many_scans, 4000, 1000),
    "tiff": damaged_tiff,
}
"""what makes each of them; not where tests are only collected, since it takes a second"""


@pytest.mark.parametrize("name", HARMFUL)
def test_what_would_take_a_decoder_minutes_is_unusable_at_once(name: str) -> None:
    data = HARMFUL[name]()
    for decode in DECODE:
        begin = time.monotonic()
        with pytest.raises(UnusableImage):
            decode(data)
        assert time.monotonic() - begin < 2


def test_a_build_goes_on_beside_them(tmp_path: Path) -> None:
    samples = []
    files = {name: make() for name, make in HARMFUL.items()}
    for name, data in {**files, "sound": encoded(Image.new("RGB", (32, 32), "teal"), "JPEG")}.items():
        (tmp_path / name).write_bytes(data)
        samples.append(RawSample(name, "train", tmp_path / name, ("a text",), ("a",)))
    options = BuildOptions(workers=1, max_skipped=1)
    manifest = build_shards(tmp_path / "out", dataset="a", classes=["a"], samples=samples, options=options)
    assert manifest.splits["train"].samples == 1
    assert sorted(Path(each.source).name for each in manifest.skipped) == sorted(HARMFUL)


def test_scans_are_counted_only_where_they_are_decoded() -> None:
    for sound in (
        many_scans(64, 1000),  # of few pixels, they take no time
        many_scans(4000, 10),
        encoded(Image.new("RGB", (4000, 4000)), "JPEG") + b"\xff\xda" * 5000,  # behind the end, as in a video there
        encoded(Image.new("RGB", (4000, 4000)), "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 5000),
        encoded(Image.new("RGB", (4000, 4000)), "JPEG", comment=b"\xff\xda" * 5000),
    ):
        assert count_pixels(sound) >= 64 * 64


@pytest.mark.parametrize("format", ["EPS", "PPM", "PCX", "TGA", "ICO", "PDF", "SGI", "DDS", "JPEG2000", "ICNS"])
def test_no_parser_of_other_formats_sees_the_bytes(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (
        encoded(Image.new("RGB", (32, 32)), format)
        if format != "EPS"
        else b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )
    Image.init()
    for name, (_, accept) in list(Image.OPEN.items()):
        if name not in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
            monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("parsed"), accept))  # type: ignore[arg-type]
    with pytest.raises(UnusableImage, match="none of JPEG, PNG, WebP, GIF, BMP and TIFF"):
        count_pixels(data)
    with pytest.raises(XmrError):
        load_square(data, 16, where="here")


def test_a_side_may_be_as_long_as_a_jpegs() -> None:
    assert count_pixels(encoded(Image.new("1", (65_535, 2)), "PNG")) == 131_070
    with pytest.raises(UnusableImage, match="65536 x 1 pixels: a side is longer than 65,535"):
        count_pixels(encoded(Image.new("1", (65_536, 1)), "PNG"))


PICTURES = [
    encoded(Image.linear_gradient("L").resize((24, 18)).convert(mode), format, **options)
    for format, mode, options in (
        ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "I;16", {}),
        ("JPEG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
        ("JPEG", "CMYK", {"progressive": True}), ("MPO", "RGB", {}), ("GIF", "P", {}), ("WEBP", "RGBA", {}),
        ("BMP", "RGB", {}), ("BMP", "P", {}), ("TIFF", "RGB", {}), ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "RGB", {"compression": "jpeg"}),
    )
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@fuzzed
@given(damaged(*PICTURES))
def test_whatever_a_picture_is_it_decodes_or_is_unusable(data: bytes) -> None:
    begin = time.monotonic()
    for decode in (*DECODE, lambda data: load_square(data, 16, where="here"), is_turned_jpeg, count_pixels):
        try:
            decode(data)
        except (UnusableImage, XmrError) as error:
            assert str(error)
    assert time.monotonic() - begin < 20


@pytest.fixture
def received(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """A folder of a picture and a text, beside which stand links to private files, and files of holes alone."""
    folder = tmp_path / "received"
    make_image(folder / "own.png", seed=1)
    (folder / "own.txt").write_text("the sea")
    make_image(tmp_path / "private" / "me.png", seed=2)
    (tmp_path / "private" / "me.txt").write_text("the secret word")
    (folder / "passport.png").symlink_to(tmp_path / "private" / "me.png")
    (folder / "passport.txt").symlink_to(Path("..", "private", "me.txt"))
    (folder / "again.txt").symlink_to("own.txt")
    (folder / "all").symlink_to(tmp_path / "private")
    for name in ("pipe.png", "pipe.txt"):
        os.mkfifo(folder / name)
    for name in ("hole.png", "hole.txt"):
        (folder / name).touch()
        os.truncate(folder / name, 2**36)
    return folder


@pytest.mark.slow
def test_no_picture_that_lies_elsewhere_is_indexed(
    received: Path, learnt_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = make_index(xmr_e2e.load(learnt_run), learnt_run, received, tmp_path / "index")
    assert (result.added, result.unusable) == (1, 1)
    assert [item.source for item in Index(tmp_path / "index").store.items([1])] == ["own.png"]
    assert "2 links lead out of" in caplog.text and "hole.png: 68,719,476,736 bytes" in caplog.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def test_no_text_that_lies_elsewhere_is_embedded(
    received: Path, learnt_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "embedded.npz"
    assert main(["embed", str(learnt_run), str(received), "--out", str(out), "--max-skipped", "2"]) == 0
    with np.load(out) as arrays:
        assert sorted(arrays["text"].tolist()) == ["", "the sea", "the sea"]
        assert not [name for name in arrays["id"].tolist() if "passport" in name]
    said = "".join(capsys.readouterr())
    assert "hole.txt:1: a line of more than 1,048,576 letters" in said.replace("\n", " ")
    shutil.rmtree(received)
