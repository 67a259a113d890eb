"""Bad input gets a clear error with file and key, nothing is lost, and a failed build leaves nothing half-made."""

from __future__ import annotations

import errno
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from rich.console import Console

from xmr_e2e.cli import main
from xmr_e2e.console import report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, Skipped, build_shards
from xmr_e2e.shards.info import describe
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.shards.media import UnusableImage, count_pixels, decode_rgb, save_picture, upright_rgb
from xmr_e2e.shards.scan import scan_shard
from xmr_e2e.shards.schema import key_of
from xmr_e2e.shards.verify import verify
from xmr_e2e.shards.writer import write_shard


def build(out: Path, samples: list[RawSample], *, skipped: tuple[Skipped, ...] = (), **options: Any) -> Manifest:
    chosen = BuildOptions(**{"workers": 1, "max_skipped": 0.9, **options})
    return build_shards(out, dataset="bad", classes=["cat", "dog"], samples=samples, skipped=skipped, options=chosen)


def sample(image: Path, source: str = "", **changes: Any) -> RawSample:
    fields = {"split": "train", "texts": ("a text",), "labels": ("cat",), **changes}
    return RawSample(source=source or image.name, image=image, **fields)


def members(out: Path) -> dict[str, bytes]:
    found = {}
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as tar:
            found.update({member.name: tar.extractfile(member).read() for member in tar})  # type: ignore[union-attr]
    return found


@pytest.fixture
def good(make_image: Callable[..., Path], tmp_path: Path) -> RawSample:
    return sample(make_image(tmp_path / "good.jpg"))


# ---- images


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be an image of this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def huge_gif(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("P", (4, 4)).save(stream, "GIF")
    return b"GIF89a" + struct.pack("<HH", width, height) + stream.getvalue()[10:]


def test_unusable_images_are_skipped_and_listed_with_file_and_reason(
    good: RawSample, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make_image(tmp_path / "whole.jpg", size=(200, 200)).read_bytes()
    contents = {
        "zero.jpg": (b"", "empty (zero bytes)"),
        "truncated.jpg": (whole[: len(whole) // 2], "cannot be decoded"),
        "header_only.jpg": (whole[:40], "not an image|cannot be decoded"),
        "page.jpg": (b"<html>404 not found</html>", "not an image"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        "huge.png": (huge_png(30_000, 30_000), "above the cap of 120,000,000 pixels"),
        "large.png": (huge_png(12_000, 12_000), "above the cap of 120,000,000 pixels"),
        "huge.gif": (huge_gif(30_000, 30_000), "above the cap of 120,000,000 pixels"),
    }
    for name, (data, _) in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.jpg").mkdir()
    reasons = {name: reason for name, (_, reason) in contents.items()}
    reasons |= {"folder.jpg": "cannot be read", "absent.jpg": "cannot be read: No such file"}

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    build(tmp_path / "out", [good, *(sample(tmp_path / name) for name in reasons)], max_skipped=0.99)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, f"{grown} KiB"  # 30,000 x 30,000 would be 2.7 GB

    manifest = load_manifest(tmp_path / "out")
    listed = {item.source: item.reason for item in manifest.skipped}
    assert listed.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert str(tmp_path / name) in listed[name]
        assert any(part in listed[name] for part in reason.split("|")), listed[name]
    assert set(members(tmp_path / "out")) == {f"{key_of('good.jpg')}.jpg", f"{key_of('good.jpg')}.json"}


@pytest.mark.parametrize(
    ("format", "mode", "extension"),
    [
        ("PNG", "RGB", "png"),
        ("BMP", "RGB", "bmp"),
        ("GIF", "P", "gif"),
        ("WEBP", "RGB", "webp"),
        ("TIFF", "RGB", "tif"),
    ],
)
def test_a_file_with_the_wrong_name_is_stored_as_what_it_is(
    format: str, mode: str, extension: str, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    wrong = make_image(tmp_path / "wrong.jpg", format=format, mode=mode)
    build(tmp_path / "out", [sample(wrong)])
    assert members(tmp_path / "out")[f"{key_of('wrong.jpg')}.{extension}"] == wrong.read_bytes()
    assert verify(tmp_path / "out", workers=1) == []


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("cmyk.jpg", "CMYK"),
        ("grey.jpg", "L"),
        ("rgba.png", "RGBA"),
        ("palette.png", "P"),
        ("bit.png", "1"),
        ("deep.png", "I;16"),
    ],
)
def test_every_mode_becomes_rgb_of_the_same_picture(
    name: str, mode: str, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    color = (200, 200, 200)
    path = make_image(tmp_path / name, mode="L" if mode == "I;16" else mode, color=color)
    if mode == "I;16":
        deep = np.asarray(Image.open(path)).astype(np.uint16) * 257
        Image.fromarray(deep).save(path)
    decoded = decode_rgb(path.read_bytes())
    assert (decoded.mode, decoded.size) == ("RGB", (64, 48))
    pixels = np.asarray(decoded, float)
    assert abs(pixels.mean() - 203) < (30 if mode == "1" else 6)
    if mode != "1":  # which is dithered: only the mean is near
        assert np.abs(pixels[0, 0] - 200).max() < 6


def test_transparency_is_laid_on_white() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(stream, "PNG")
    assert decode_rgb(stream.getvalue()).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_sets_the_picture_upright(format: str, orientation: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format, exif=exif)
    decoded = decode_rgb(stream.getvalue())
    assert decoded.size == ((40, 24) if orientation < 5 else (24, 40))
    upright = ImageOps.exif_transpose(Image.open(stream))
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(upright.convert("RGB")))
    assert upright_rgb(decoded).tobytes() == decoded.tobytes(), "a picture that was turned is turned again"


def test_pictures_that_cannot_be_resized_or_are_cut_are_listed(
    good: RawSample, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    long = make_image(tmp_path / "long.png", size=(65_520, 30))
    cut = make_image(tmp_path / "cut.jpg", size=(200, 200))
    cut.write_bytes(cut.read_bytes()[:1000] + b"\xff\xd9")
    samples = [good, sample(long), sample(cut)]
    listed = {item.source: item.reason for item in build(tmp_path / "resized", samples, resize=64).skipped}
    assert listed.keys() == {"long.png", "cut.jpg"}
    assert f"{long}: 65520 x 30 pixels are too long to be resized" in listed["long.png"]
    assert f"{cut}: cannot be decoded: the JPEG is cut" in listed["cut.jpg"]
    listed = {item.source: item.reason for item in build(tmp_path / "original", samples).skipped}
    assert listed.keys() == {"cut.jpg"}


def test_resizing_keeps_the_picture_upright(make_image: Callable[..., Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = make_image(tmp_path / "turned.jpg", size=(80, 40), exif=exif)
    build(tmp_path / "out", [sample(path)], resize=20)
    resized = Image.open(io.BytesIO(members(tmp_path / "out")[f"{key_of('turned.jpg')}.jpg"]))
    assert resized.size == (20, 40)
    assert resized.getexif().get(0x0112, 1) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_exif_block_does_not_cost_the_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    stream = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stream, "JPEG", exif=exif)
    data = stream.getvalue()
    start, length = data.index(b"Exif\0\0") + 6, len(exif.tobytes()) - 6
    block = data[start : start + length]
    for place in range(8, length):
        for value in (0, 2, 7, 255):
            damaged = data[:start] + block[:place] + bytes([value]) + block[place + 1 :] + data[start + length :]
            assert decode_rgb(damaged).size in {(8, 4), (4, 8)}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_is_unusable_or_decodes_and_nothing_else(make_image: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        whole = make_image(tmp_path / "image", format=format, size=(32, 24)).read_bytes()
        for _ in range(100):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(0, 256)
            try:
                assert count_pixels(bytes(data)) and decode_rgb(bytes(data)).mode == "RGB"
            except UnusableImage as error:
                assert str(error)


# ---- texts, names and labels


def test_texts_and_names_of_any_script_come_back_unchanged(make_image: Callable[..., Path], tmp_path: Path) -> None:
    texts = ('She said "hi", twice', "naïve Straße, 猫が走る", "سلام 🐕", "back\\slash\ttab", "A")
    for name in ("Größe 猫.jpg", "a,b;'c'\".jpg", "dots.in.name.jpg", "sub/folder.jpg"):
        path = make_image(tmp_path / "raw" / name)
        build(tmp_path / "out", [sample(path, name, texts=texts)], overwrite=True)
        index, metadata = scan_shard(tmp_path / "out" / "train-00000.tar", ["cat", "dog"])
        assert (metadata[0].source, metadata[0].texts) == (name, texts)
        assert index.keys == (key_of(name),)
        assert verify(tmp_path / "out", workers=1) == []


def test_empty_captions_are_left_out_with_a_note_and_none_left_skips_the_sample(
    good: RawSample, tmp_path: Path
) -> None:
    half = sample(good.image, "half", texts=("", "one left", " \n"))
    none = sample(good.image, "none", texts=("", "  "))
    manifest = build(tmp_path / "out", [good, half, none])
    assert manifest.splits["train"].samples == 2
    assert [item.source for item in manifest.skipped] == ["none"] and "no text" in manifest.skipped[0].reason
    assert any(note.startswith("half: 2 of 3 texts are empty") for note in manifest.notes)


def test_an_unknown_label_skips_the_sample_and_is_named(good: RawSample, tmp_path: Path) -> None:
    manifest = build(tmp_path / "out", [good, sample(good.image, "odd", labels=("cat", "unicorn"))])
    assert [(item.source, item.split) for item in manifest.skipped] == [("odd", "train")]
    assert "'unicorn' is in no class list" in manifest.skipped[0].reason


def test_a_name_that_is_no_utf8_is_an_error(good: RawSample, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    with pytest.raises(XmrError, match="not valid UTF-8"):
        build(tmp_path / "out", [good, sample(good.image, name)])


# ---- builds that fail


FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


@pytest.mark.parametrize("name", ["train-00000.tar", "train-00000.index.safetensors", "train-00000.result.json",
                                  "manifest.json"])  # fmt: skip
@pytest.mark.parametrize("number", FULL)
def test_a_full_disk_is_told_with_the_file_and_the_same_command_goes_on(
    number: int, name: str, good: RawSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fsync_file = os.fsync

    def fail(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith(name):
            raise OSError(number, os.strerror(number))
        fsync_file(descriptor)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail)
        assert report_errors(lambda: build(out, [good]) and None) == 2
    (message,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert message.startswith(f"error: {out}") and f"{name}: {FULL[number]}; make room" in message
    assert "the same command goes on" in message
    assert not list(out.rglob("*.part"))
    build(out, [good])
    assert verify(out, workers=1) == []


def test_a_write_that_the_system_really_ends_is_told_with_the_file(tmp_path: Path) -> None:
    tar = tmp_path / "train-00000.tar"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_shard(tar, [("key", {"jpg": b"x" * 100_000})])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tar)
    assert not tar.exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: the disk is full; make room"),
        (OSError(errno.EROFS, "Read-only file system", "a.tar"), "error: a.tar: the disk is mounted read-only"),
        (OSError(errno.EIO, "Input/output error", b"a.tar"), "error: a.tar: Input/output error"),
        (OSError("broken data stream"), "error: broken data stream"),
        (TimeoutError(), "error: TimeoutError"),
    ],
)
def test_any_error_of_the_system_is_one_line(error: OSError, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert report_errors(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_a_console_of_another_encoding_shows_all_names(
    good: RawSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = replace(build(tmp_path, [good]), classes=("狗 dog", "cat"))
    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, "ascii"))
    assert report_errors(lambda: Console(width=80).print(describe(manifest))) == 0
    sys.stdout.flush()
    assert b"| \\u72d7 dog |" in stream.getvalue() and b"| #################### |" in stream.getvalue()


def test_the_backend_of_a_notebook_does_not_hinder_drawing() -> None:
    code = "from xmr_e2e.console import report_errors; report_errors(lambda: __import__('matplotlib').use('agg'))"
    environment = {**os.environ, "MPLBACKEND": "module://absent.backend_inline"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-8", "'caf\\udce9' is not valid UTF-8; rename it"), ("ascii", "set LC_ALL=C.UTF-8, or PYTHONUTF8=1")],
)
def test_a_name_that_cannot_be_encoded_is_one_line(
    encoding: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: encoding)
    assert report_errors(lambda: len("caf\udce9".encode())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: 'caf\\udce9'") and message in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shards", "verify", "{}", "--workers", "0"], "--workers must be at least 1, not 0"),
        (["shards", "audit", "{}", "--workers", "-2"], "--workers must be at least 1, not -2"),
        (["shards", "sheet", "{}", "{}/a.png", "--count", "0"], "--count and --columns must be at least 1"),
        (["shards", "sheet", "{}", "{}/a.png", "--columns", "0"], "--count and --columns must be at least 1"),
        (["shards", "sheet", "{}", "{}/a.png", "--seed", "-1"], "--seed must be at least 0, not -1"),
    ],
)
def test_numbers_out_of_bounds_are_named(
    good: RawSample, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path, [good])
    assert main([word.format(tmp_path) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_a_sheet_that_is_too_long_for_its_format_is_told(tmp_path: Path) -> None:
    out = tmp_path / "sheet.webp"
    with pytest.raises(XmrError, match=r"sheet\.webp: 10 x 17000 pixels cannot be written as \.webp"):
        save_picture(Image.new("RGB", (10, 17_000)), out)
    assert not out.exists()


def test_duplicate_sources_are_an_error_that_names_both_files(
    good: RawSample, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    other = sample(make_image(tmp_path / "other.jpg"), good.source, split="test")
    with pytest.raises(XmrError, match=r"good\.jpg.*other\.jpg \(split test\)"):
        build(tmp_path / "out", [good, other])


def test_a_split_without_usable_samples_is_an_error(good: RawSample, tmp_path: Path) -> None:
    absent = sample(tmp_path / "absent.jpg", split="val")
    with pytest.raises(XmrError, match=r"no usable sample is left in the split 'val'(?s:.*)absent\.jpg"):
        build(tmp_path / "one", [good, absent])
    with pytest.raises(XmrError, match="no usable sample is left in the split 'test'"):
        build(tmp_path / "two", [good], skipped=(Skipped("x", "test", "found by the builder"),))
    assert not list(tmp_path.glob("*/manifest.json"))


def test_too_many_unusable_samples_fail_the_build_and_are_listed(good: RawSample, tmp_path: Path) -> None:
    absent = [sample(tmp_path / f"absent_{n}.jpg") for n in range(3)]
    out = tmp_path / "out"
    with pytest.raises(XmrError) as caught:
        build(out, [good, *absent], skipped=(Skipped("early", "train", "bad row"),), max_skipped=0.5)
    for text in ("4 of 5 samples", "--max-skipped 0.5", "absent_2.jpg", "early (train): bad row"):
        assert text in str(caught.value)
    assert not (out / "manifest.json").exists() and not list(out.glob("*.tar"))
    assert len(build(out, [good, *absent], max_skipped=0.8).skipped) == 3


def test_another_dataset_in_the_folder_is_kept_unless_overwrite_is_given(
    good: RawSample, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build(out, [good])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = [sample(make_image(tmp_path / "other.jpg"))]
    with pytest.raises(XmrError, match=r"already holds the dataset 'bad'.*--overwrite"):
        build(out, other)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    build(out, other, overwrite=True)
    assert f"{key_of('other.jpg')}.jpg" in members(out)
    assert verify(out, workers=1) == []


def test_overwrite_mends_a_damaged_dataset(good: RawSample, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, [good])
    (out / "train-00000.tar").write_bytes(b"damaged")
    assert verify(out, workers=1)
    build(out, [good], overwrite=True)
    assert verify(out, workers=1) == []


def test_tars_of_somebody_else_are_not_deleted(good: RawSample, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "train-00000.tar").write_bytes(b"precious")
    with pytest.raises(XmrError, match="not from a build"):
        build(out, [good])
    assert (out / "train-00000.tar").read_bytes() == b"precious"


def test_no_samples_and_impossible_options_are_errors(good: RawSample, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match="no samples were found"):
        build(tmp_path / "out", [])
    with pytest.raises(XmrError, match="split 'dev' is none of train, val, test"):
        build(tmp_path / "out", [sample(good.image, split="dev")])
    refused: dict[str, dict[str, Any]] = {
        "--shard-samples": {"shard_samples": 0},
        "--resize": {"resize": 0},
        "--workers": {"workers": 0},
        "--max-skipped": {"max_skipped": 1.5},
        "--max-pixels must be at most": {"max_pixels": 200_000_000},
    }
    for message, options in refused.items():
        with pytest.raises(XmrError, match=message):
            build(tmp_path / "out", [good], **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b'{"format": "xmr-shards", "version": 2}'])
def test_a_damaged_manifest_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(XmrError, match=r"manifest\.json: not a valid manifest"):
        load_manifest(tmp_path)


def test_a_manifest_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "xmr-shards", "version": 9}')
    with pytest.raises(XmrError, match="version 9; this program reads"):
        load_manifest(tmp_path)
