"""Folders of shards and raw files from somebody else: whatever is in them, nothing of the receiver's is changed, read
or run, and what is wrong ends in one error that names file and key."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file

from preprocessing.flickr.command import flickr
from preprocessing.folder.command import folder as build_folder
from tests.helpers.fuzzing import EXAMPLES, damaged, fuzzed, hostile
from xmr_e2e.cli import main
from xmr_e2e.console import report_errors
from xmr_e2e.data import reader
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.adopt import adopt_shards
from xmr_e2e.shards.audit.audit import audit
from xmr_e2e.shards.audit.files import table_of_duplicates
from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.features import (
    StoredRegions,
    UnusableFeatures,
    decode_features,
    decode_regions,
    encode_features,
    encode_regions,
)
from xmr_e2e.shards.index import ShardIndex, index_path, load_index
from xmr_e2e.shards.manifest import load_manifest, parse_manifest
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.scan import Problem, scan_shard
from xmr_e2e.shards.schema import decode_metadata
from xmr_e2e.shards.verify import verify

TAR = "train-00000.tar"
MEMBER = "regions.safetensors"
Change = Callable[[dict[str, Any]], None]


def snapshot(folder: Path) -> dict[str, str]:
    """All that lies in a folder: kind, and content or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "other"
    return found


@pytest.fixture
def received(tiny_shards: Path, tmp_path: Path) -> Path:
    """The tiny shards, as they came from somebody; to be made hostile."""
    reader._cached_index.cache_clear()  # of a folder of the same name, which pytest may have given to another test
    return Path(shutil.copytree(tiny_shards, tmp_path / "received"))


@pytest.fixture
def private(tiny_shards: Path, tmp_path: Path) -> Path:
    """The user's own: a folder of shards and a text."""
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "private"))
    (folder / "thesis.tar").write_text("years of work")
    return folder


def change_manifest(folder: Path, change: Change) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


def first_shard(**values: Any) -> Change:
    return lambda document: document["splits"]["train"]["shards"][0].update(values)


def regions(shape: tuple[int, int] = (2, 3)) -> bytes:
    count = shape[0]
    features = np.ones(shape, np.float32)
    return encode_regions(StoredRegions(features, np.ones((count, 5), np.float32), np.ones(count, np.int64)))


def encode(records: Sequence[Record]) -> list[bytes | None]:
    return [regions() for _ in records]


def extend(folder: Path, note: str = "made") -> None:
    extend_shards(folder, MEMBER, encode, batch=8, note=note)


# ---- the manifest


@pytest.mark.parametrize(
    "change, key",
    [
        (first_shard(name="../private/val-00000.tar"), "splits.train.shards.0.name"),
        (first_shard(name="/etc/passwd.tar"), "splits.train.shards.0.name"),
        (first_shard(name="a b.tar"), "splits.train.shards.0.name"),
        (first_shard(name="manifest.json"), "splits.train.shards.0.name"),
        (first_shard(name="val-00000.tar"), "val-00000.tar is there twice"),
        (first_shard(sha256="x" * 64), "splits.train.shards.0.sha256"),
        (first_shard(samples=-1), "splits.train.shards.0.samples"),
        (first_shard(samples=10**10), "splits.train.shards.0.samples"),
        (first_shard(samples=10**8), "100,000,000 samples in"),
        (first_shard(bytes=2**63), "splits.train.shards.0.bytes"),
        (first_shard(samples=float("nan")), "splits.train.shards.0.samples"),
        (first_shard(other=1), "splits.train.shards.0.other"),
        (lambda d: d["splits"]["train"].update(shards=[]), "splits.train.shards"),
        (lambda d: d["splits"]["train"].update(modalities={"smell": 1}), "splits.train.modalities.smell"),
        (lambda d: d["splits"]["train"]["labels"].update(none=1), "'none' is none of the classes"),
        (lambda d: d["splits"].update({"../x": d["splits"]["val"]}), "splits.../x"),
        (lambda d: d.update(splits={}), "splits"),
        (lambda d: d.update(classes=["a", "a"]), "a class is there twice"),
        (lambda d: d.update(classes=["x" * 2000]), "classes.0"),
        (lambda d: d.update(classes=[3]), "classes.0"),
        (lambda d: d.update(shapes={"image": []}), "shapes.image"),
        (lambda d: d.update(shapes={"image": [2**40]}), "shapes.image.0"),
        (lambda d: d.update(shapes={"regions": [3]}), "shapes.regions"),
        (lambda d: d.update(options={"max_pixels": [[]]}), "options.max_pixels"),
        (lambda d: d.update(multi_label="yes"), "multi_label"),
        (lambda d: d.update(notes=[[[[1]]]]), "notes.0"),
    ],
)
def test_a_manifest_is_held_to_its_shape_and_the_key_is_named(
    change: Change, key: str, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_manifest(received, change)
    assert main(["shards", "info", str(received)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and f"{received}/manifest.json: not a valid manifest: " in lines[0] and key in lines[0]


def test_a_manifest_that_earlier_versions_wrote_is_read(received: Path) -> None:
    before = load_manifest(received)
    for name in ("extended", "options", "fingerprint"):
        change_manifest(received, lambda document, name=name: document.pop(name))  # type: ignore[misc]
    after = load_manifest(received)
    assert (after.splits, after.classes, after.options, after.extended) == (before.splits, before.classes, {}, {})


@pytest.mark.parametrize("name", ["../private/val-00000.tar", "{private}/val-00000.tar"])
def test_no_sheet_is_drawn_of_tars_that_lie_elsewhere(
    name: str, received: Path, private: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = name.format(private=private)

    def elsewhere(document: dict[str, Any]) -> None:
        document["splits"] = {"train": document["splits"]["val"]}
        document["splits"]["train"]["shards"] = document["splits"]["train"]["shards"][:1]
        document["splits"]["train"]["shards"][0]["name"] = name

    change_manifest(received, elsewhere)
    assert main(["shards", "sheet", str(received), str(tmp_path / "sheet.png")]) == 2
    assert "should be a plain name" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("name", [TAR, "train-00000.index.safetensors", "manifest.json"])
def test_a_link_out_of_the_folder_is_not_read(
    name: str, received: Path, private: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (received / name).unlink()
    (received / name).symlink_to(private / name)
    before = snapshot(private)
    for command in (["sheet", str(received), str(tmp_path / "sheet.png")], ["audit", str(received), "--workers", "1"]):
        assert main(["shards", *command]) == 2
        message = capsys.readouterr().err
        assert f"{received / name} is a link that leads out of its folder; put the file itself there" in message
        assert f"mount it: xmr shards mount file://{private} FOLDER" in message
    if name != "manifest.json":
        assert any(f"{name} is a link that leads out" in str(problem) for problem in verify(received, workers=1))
    assert not (tmp_path / "sheet.png").exists()
    assert snapshot(private) == before


def test_a_link_within_the_folder_is_read(received: Path) -> None:
    (received / TAR).rename(received / "elsewhere")
    (received / TAR).symlink_to("elsewhere")
    assert verify(received, workers=1) == []


@pytest.mark.parametrize("name", [TAR, "train-00000.index.safetensors", "manifest.json"])
def test_a_pipe_is_not_waited_for(name: str, received: Path, tmp_path: Path) -> None:
    (received / name).unlink()
    os.mkfifo(received / name)
    assert main(["shards", "sheet", str(received), str(tmp_path / "sheet.png")]) == 2


# ---- indexes


def change_index(**arrays: Any) -> Callable[[dict[str, np.ndarray[Any, Any]]], None]:
    """Another first value in these arrays of an index ("offset_jpg" for "offset.jpg")."""

    def change(found: dict[str, np.ndarray[Any, Any]]) -> None:
        for name, value in arrays.items():
            found[name.replace("_jpg", ".jpg").replace("_json", ".json")][0] = value

    return change


def longer(found: dict[str, np.ndarray[Any, Any]]) -> None:
    for name in ("key_ends", "label_ends", "texts", *(name for name in found if "." in name)):
        found[name] = np.concatenate([found[name], found[name][-1:]])


@pytest.mark.parametrize(
    "change, reason",
    [
        (change_index(offset_jpg=2**62), r": [0-9a-f]{16}-\w+: \.jpg does not lie within the tar"),
        (change_index(size_jpg=10**15), r": [0-9a-f]{16}-\w+: \.jpg does not lie within the tar"),
        (change_index(offset_jpg=2**63 - 1, size_jpg=2**63 - 1), r"\.jpg does not lie within the tar"),
        (change_index(size_jpg=-5), r"\.jpg does not lie within the tar"),
        (change_index(offset_jpg=-1), r"\.jpg does not lie within the tar"),
        (change_index(texts=-1), "numbers of texts below 0"),
        (change_index(labels=4), r": [0-9a-f]{16}-\w+: a label that is no class"),
        (change_index(labels=-1), r": [0-9a-f]{16}-\w+: a label that is no class"),
        (change_index(keys=255), "can't decode byte"),
        (change_index(keys=10), "a key with the character"),
        (change_index(key_ends=-1), "do not lie one after the other"),
        (change_index(key_ends=0), "keys that are empty"),
        (change_index(label_ends=2**62), "do not lie one after the other"),
        (longer, "missing or damaged"),
        (lambda found: found.pop("size.jpg"), "kinds of members"),
        (lambda found: found.update(more=np.zeros(8, np.int64)), "'more' holds"),
        (lambda found: found.update({"offset.jpg": found["offset.jpg"].astype(float)}), "holds float64"),
        (lambda found: found.update({"offset.jpg": found["offset.jpg"][:-1]}), r"shape \(7,\)"),
        (lambda found: found.update(texts=np.array(3, np.int32)), "missing or damaged"),
    ],
)
def test_an_index_is_held_against_its_manifest_wherever_it_is_read(
    change: Callable[[dict[str, np.ndarray[Any, Any]]], None], reason: str, received: Path
) -> None:
    path = index_path(received / TAR)
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    with pytest.raises(XmrError, match=reason) as caught:
        SplitReader(received, "train").read(0)
    assert str(caught.value).startswith(str(path)) and "rebuild the shards" in str(caught.value)
    with pytest.raises(XmrError, match=reason):
        audit([received], workers=1)
    assert any(str(path) in str(problem) for problem in verify(received, workers=1))


def test_an_index_of_other_samples_is_refused(received: Path) -> None:
    change_manifest(received, first_shard(samples=7))
    with pytest.raises(XmrError, match="the index has 8 samples; the manifest says 7"):
        SplitReader(received, "train").read(0)


def test_an_index_is_measured_before_it_is_read(received: Path) -> None:
    with open(index_path(received / TAR), "r+b") as stream:
        stream.truncate(2**40)  # takes no room
    with pytest.raises(XmrError, match=r"at most [0-9,]+ are read"):
        SplitReader(received, "train").read(0)


def test_features_of_another_shape_than_the_manifests_are_refused(received: Path) -> None:
    extend(received)
    change_manifest(received, lambda document: document["shapes"].update(regions=[2, 4]))
    with pytest.raises(XmrError, match=r"regions features of shape \(2, 3\); the manifest says \(2, 4\)"):
        SplitReader(received, "train").regions(0)


# ---- what an extension or a build has left


def begin_extension(folder: Path) -> None:
    """As after an interruption: two shards are done, and the manifest is in .extending."""
    calls = 0

    def fail(records: Sequence[Record]) -> list[bytes | None]:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise KeyboardInterrupt
        return encode(records)

    with pytest.raises(KeyboardInterrupt):
        extend_shards(folder, MEMBER, fail, batch=8, note="made")
    assert not (folder / "manifest.json").exists() and (folder / ".extending" / "manifest.json").exists()


@pytest.mark.parametrize("note", ["made", "otherwise"])
@pytest.mark.parametrize("name", ["../../private/thesis.tar", "{private}/thesis.tar", "../private/thesis.tar"])
def test_a_received_extension_moves_nothing_that_lies_elsewhere(
    name: str, note: str, received: Path, private: Path
) -> None:
    begin_extension(received)
    path = received / ".extending" / f"{TAR}.result.json"
    result = json.loads(path.read_bytes())
    result["shard"]["name"] = name.format(private=private)
    path.write_text(json.dumps(result))
    (received / ".extending" / "x.result.json").write_text(json.dumps(result))  # of no shard
    before, own = snapshot(received), snapshot(private)
    with pytest.raises(XmrError, match=r"result\.json: shard\.name: should be a plain name"):
        extend(received, note)
    assert snapshot(private) == own
    assert snapshot(received) == before


def test_a_result_of_another_shard_is_refused(received: Path) -> None:
    begin_extension(received)
    path = received / ".extending" / f"{TAR}.result.json"
    result = json.loads(path.read_bytes())
    result["shard"]["name"] = "val-00000.tar"
    path.write_text(json.dumps(result))
    with pytest.raises(XmrError, match=r"shard\.name: is not train-00000\.tar"):
        extend(received)


def test_an_extension_does_not_write_through_a_link(received: Path, private: Path) -> None:
    begin_extension(received)
    done = {path.name.removesuffix(".result.json") for path in (received / ".extending").glob("*.result.json")}
    left = min(path.name for path in received.glob("*.tar") if path.name not in done)
    for name in (left, index_path(Path(left)).name, f"{left}.result.json.part"):
        (received / ".extending" / name).symlink_to(private / "thesis.tar")
    before = snapshot(private)
    with suppress(XmrError):
        extend(received)
    assert snapshot(private) == before
    assert verify(received, workers=1) == []


@pytest.mark.parametrize("name", [".extending", ".building"])
def test_a_link_in_place_of_an_own_folder_is_not_followed(
    name: str, received: Path, private: Path, tiny_samples: tuple[RawSample, ...]
) -> None:
    (received / name).symlink_to(private)
    before = snapshot(private)
    if name == ".extending":
        with pytest.raises(XmrError, match=r"\.extending: not a folder of its own"):
            extend(received)
    else:
        (received / "manifest.json").unlink()
        with pytest.raises(XmrError, match=r"\.building: not a folder of its own"):
            build_shards(received, dataset="own", classes=[], samples=tiny_samples, options=BuildOptions(workers=1))
    assert snapshot(private) == before


def test_building_over_a_received_folder_leaves_what_its_links_lead_to(
    received: Path, private: Path, tiny_samples: tuple[RawSample, ...]
) -> None:
    (received / ".building" / "other").mkdir(parents=True)
    for place in (".building/all", ".building/other/all", "more.tar"):
        (received / place).symlink_to(private)
    (received / ".building" / "thesis").symlink_to(private / "thesis.tar")
    (received / "train-00001.tar").unlink()
    (received / "train-00001.tar").symlink_to(private / "thesis.tar")
    (received / "train-00001.index.safetensors").unlink()
    (received / "train-00001.index.safetensors").symlink_to(private / "thesis.tar")
    before = snapshot(private)
    classes = load_manifest(received).classes
    options = BuildOptions(workers=1, shard_samples=8, overwrite=True)
    build_shards(received, dataset="own", classes=classes, samples=tiny_samples, options=options)
    assert snapshot(private) == before
    assert verify(received, workers=1) == []
    assert not any(path.is_symlink() for path in received.rglob("*"))


# ---- tars of another tool


def make_image_bytes(size: tuple[int, int] = (12, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (90, 120, 60)).save(stream, "JPEG")
    return stream.getvalue()


PICTURE = make_image_bytes()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def record(keyword: str, value: bytes) -> bytes:
    """A record of a pax header, which begins with its own length."""
    rest = f" {keyword}=".encode() + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def pax(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return member("pax", b"".join(records), kind)


def sample(key: str, *, json: bytes | None = None, text: bytes = b"a text") -> bytes:
    texts = member(f"{key}.txt", text) if json is None else member(f"{key}.json", json)
    return member(f"{key}.jpg", PICTURE) + texts


SOUND = sample("a") + sample("b")
END = bytes(1024)
TARS: dict[str, tuple[bytes, str]] = {
    "size beyond the end": (SOUND + header("c.jpg", 2**50) + END, "unexpected end of data: c.jpg has 1,125,899"),
    "size by pax": (SOUND + pax(record("size", b"9" * 18)) + sample("c") + END, "unexpected end of data"),
    "size by pax, of many digits": (SOUND + pax(record("size", b"9" * 600)) + sample("c") + END, "no attributes"),
    "negative size": (SOUND + header("c.jpg", -(2**40)) + sample("d") + END, "not a whole tar file"),
    "pax header of 68 GB": (SOUND + header("pax", 68 * 10**9, tarfile.XHDTYPE) + END, "of names and attributes"),
    "long name of 68 GB": (SOUND + header("L", 68 * 10**9, tarfile.GNUTYPE_LONGNAME) + END, "of names and attributes"),
    "3,000 pax headers": (SOUND + pax(record("x", b"y")) * 3000 + sample("c") + END, "of names and attributes"),
    "nested attributes": (SOUND + pax(b"9 " * 6000 + b"=") + sample("c") + END, ""),
    "many digits": (SOUND + pax(b"1" * 15_000) + sample("c") + END, "attributes that are no attributes"),
}  # fmt: skip


def adopt(tar: Path, **options: Any) -> Path:
    folder, _ = adopt_shards({"train": [tar]}, workers=1, **options)
    return folder


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_a_problem_of_that_tar_and_takes_no_memory(name: str, tmp_path: Path) -> None:
    content, reason = TARS[name]
    tar = tmp_path / "a.tar"
    tar.write_bytes(content)
    found: list[Problem] = []
    tracemalloc.start()
    try:
        index, _ = scan_shard(tar, problems=found)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert index.keys[:2] == ("a", "b")
    assert peak < 100e6
    if reason:
        assert [problem.shard for problem in found] == ["a.tar"] and reason in found[0].what
        before = snapshot(tmp_path)
        with pytest.raises(XmrError, match="these tars cannot be adopted"):
            adopt(tar)
        assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_what_global_attributes_say_is_not_kept_for_each_member(tmp_path: Path) -> None:
    many = b"".join(record(f"k{number}-{{}}", b"x" * 8) for number in range(500))
    parts = [pax(many.replace(b"{}", b"%02d" % n), kind=tarfile.XGLTYPE) + sample(f"{n:04d}") for n in range(99)]
    (tmp_path / "a.tar").write_bytes(b"".join(parts) + END)
    tracemalloc.start()
    try:
        index, _ = scan_shard(tmp_path / "a.tar")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(index) == 99 and peak < 10e6


SAMPLES: dict[str, tuple[bytes, str]] = {
    "deep": (sample("c", json=b"[" * 200_000), "the metadata cannot be read"),
    "digits": (sample("c", json=b'{"label": ' + b"9" * 10_000 + b"}"), "the metadata cannot be read"),
    "nearly too deep": (sample("c", json=b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"), '"text" must be a string'),
    "infinite": (sample("c", json=b'{"text": Infinity}'), '"text" must be a string'),
    "large": (member("c.jpg", PICTURE) + member("c.txt", bytes(17 * 2**20)), ".txt has 17,825,792 bytes"),
    "zeros": (sample("c", text=b"a\0b"), "zero bytes"),
    "sparse": (member("c.txt", b"t") + member("c.jpg", PICTURE, tarfile.GNUTYPE_SPARSE), "sparse"),
    "link": (member("c.txt", b"t") + header("c.jpg", 0, tarfile.SYMTYPE), "is a link to"),
    "line break": (pax(record("path", b"c\nd.jpg")) + member("x", PICTURE), "would end a line"),
    "zero in a name": (pax(record("path", b"c\0d.jpg")) + member("x", PICTURE), "would end a line"),
    "long name": (pax(record("path", b"c" * 2000 + b".jpg")) + member("x", PICTURE), "more than 1,024 bytes"),
    "no UTF-8": (member("c.txt", b"t") + pax(record("path", b"c.jp\xff")) + member("x", PICTURE), "image member is"),
    "kinds": (b"".join(member(f"c.x{n}", b"") for n in range(300)) + member("c.txt", b"t"), "more than 256 kinds"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_hostile_sample_is_left_out_and_named(name: str, tmp_path: Path) -> None:
    content, reason = SAMPLES[name]
    tar = tmp_path / "a.tar"
    tar.write_bytes(SOUND + content + END)
    folder = adopt(tar, max_skipped=0.5)
    (left_out,) = load_manifest(folder).skipped
    assert left_out.source.startswith("a.tar/c") and reason in left_out.reason
    assert load_index(tar).keys == ("a", "b")
    assert verify(folder, workers=1) == []
    with pytest.raises(XmrError, match="1 of 3 samples cannot be used") as caught:
        adopt(tar, max_skipped=0.1)
    assert len(str(caught.value).splitlines()) == 3


def test_a_source_with_half_a_character_is_kept_without_it(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(sample("a", json=b'{"text": "t", "source": "\\ud83d!"}') + END)
    assert SplitReader(adopt(tar), "train").metadata(0).source == "\ufffd!"


@pytest.mark.parametrize("name", ["my tar.tar", "a'b.tar", "-rf.tar", "a.tgz", "$(touch x).tar"])
def test_tars_without_a_plain_name_are_to_be_renamed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(SOUND + END)
    with pytest.raises(XmrError, match="rename the file"):
        adopt(tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_tars_that_are_links_to_another_disk_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "folder"
    disk.mkdir()
    folder.mkdir()
    (disk / "a.tar").write_bytes(SOUND + END)
    (folder / "a.tar").symlink_to(disk / "a.tar")
    with pytest.raises(XmrError, match=r"a\.tar is a link .*put the file itself there.*xmr shards mount file:///"):
        adopt(folder / "a.tar")
    assert [path.name for path in (*disk.iterdir(), *folder.iterdir())] == ["a.tar", "a.tar"]


def test_classes_that_no_manifest_can_hold_are_told_before_anything_is_written(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(sample("a", json=b'{"text": "t", "label": "' + b"9" * 5000 + b'"}') + END)
    with pytest.raises(XmrError, match="5,000 characters, not 1 to 1,000"):
        adopt(tar)
    assert list(tmp_path.iterdir()) == [tar]


# ---- raw files


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Class folders with two samples, and a private picture and text beside them."""
    folder = tmp_path / "raw"
    for name in ("dog", "cat"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            (folder / name / f"{number}.jpg").write_bytes(make_image_bytes((12, 8 + number)))
            (folder / name / f"{number}.txt").write_text(f"a {name}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "p.jpg").write_bytes(make_image_bytes((20, 20)))
    (tmp_path / "mine" / "p.txt").write_text("a secret")
    return folder


def build_own(raw: Path, out: Path, **options: Any) -> int:
    table = options.pop("table", None)
    build = BuildOptions(workers=1, **options)
    return report_errors(lambda: build_folder(raw, out, table=table, val=0, test=0, build=build))


@pytest.mark.parametrize("link", ["dog/3.jpg", "dog/0.txt", "dog/0.jpg", "cow"])
def test_links_in_class_folders_do_not_bring_in_what_lies_elsewhere(
    link: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine" / ("" if link == "cow" else f"p{Path(link).suffix}")
    (raw / link).unlink(missing_ok=True)
    (raw / link).symlink_to(target)
    assert build_own(raw, tmp_path / "out") == 2
    assert f"{raw / link} leads out of {raw}; put the files themselves there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert build_own(raw, tmp_path / "out", outside=True, max_skipped=0.5) == 0


@pytest.mark.parametrize("reachable", [False, True])
def test_a_folder_that_cannot_be_listed_is_passed_over_where_nothing_in_it_can_be_read(
    reachable: bool, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As lost+found at the top of a disk. Tests may run as root, who can list all."""
    closed, scandir, access = raw / "lost+found", os.scandir, os.access
    closed.mkdir()

    def list_entries(path: Any = ".") -> Any:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    def may_access(path: Any, mode: int, **options: Any) -> bool:
        return reachable if path == closed else access(path, mode, **options)

    monkeypatch.setattr(os, "scandir", list_entries)
    monkeypatch.setattr(os, "access", may_access)
    assert build_own(raw, tmp_path / "out") == (2 if reachable else 0)
    assert not reachable or f"{closed}: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("image", ["../mine/p.jpg", "{mine}/p.jpg", "link.jpg", "linked/p.jpg", "linked/../mine/p.jpg"])
def test_a_row_of_a_table_does_not_bring_in_what_lies_elsewhere(
    image: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    (raw / "link.jpg").symlink_to(mine / "p.jpg")
    (raw / "linked").symlink_to(mine)
    image = image.format(mine=mine)
    table = tmp_path / "table.csv"
    table.write_text(f"image,text,split\ndog/0.jpg,a dog,train\n{image},mine,train\n")
    assert build_own(raw, tmp_path / "out", table=table) == 2
    message = capsys.readouterr().err
    assert "table.csv, line 3" in message and image in message
    assert not (tmp_path / "out").exists()


def test_links_of_a_table_are_taken_where_that_is_asked_for(raw: Path, tmp_path: Path) -> None:
    (raw / "linked").symlink_to(tmp_path / "mine")
    table = tmp_path / "table.csv"
    table.write_text("image,text,split\ndog/0.jpg,a dog,train\nlinked/p.jpg,mine,train\n")
    assert build_own(raw, tmp_path / "out", table=table, outside=True) == 0
    assert load_manifest(tmp_path / "out").splits["train"].samples == 2


def test_a_caption_file_does_not_bring_in_what_lies_elsewhere(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flickr8k = tmp_path / "flickr"
    shutil.copytree(raw / "dog", flickr8k / "Flicker8k_Dataset")
    names = ["0.jpg", "1.jpg", "../../mine/p.jpg"]
    (flickr8k / "Flickr8k.token.txt").write_text("".join(f"{name}#0\ta text\n" for name in names))
    for split, name in zip(("train", "dev", "test"), reversed(names)):
        (flickr8k / f"Flickr_8k.{split}Images.txt").write_text(f"{name}\n")
    out = tmp_path / "out"
    assert report_errors(lambda: flickr(flickr8k, out, build=BuildOptions(workers=1))) == 2
    assert f"../../mine/p.jpg leads out of {flickr8k}" in capsys.readouterr().err
    assert not out.exists()


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("resize", [None, 8])
def test_pictures_that_no_decoder_stands_count_as_unusable(resize: int | None, raw: Path, tmp_path: Path) -> None:
    (raw / "dog" / "0.jpg").write_bytes(png_of_size(119_000_000, 1))
    with open(raw / "dog" / "1.jpg", "wb") as stream:
        stream.truncate(2**40)  # takes no room
    (raw / "dog" / "2.jpg").write_bytes(damaged_tiff())
    assert build_own(raw, tmp_path / "out", resize=resize, max_skipped=0.9) == 0
    manifest = load_manifest(tmp_path / "out")
    assert {item.source for item in manifest.skipped} == {f"dog/{number}.jpg" for number in range(3)}
    assert build_own(raw, tmp_path / "other", resize=resize, max_skipped=0.1) == 2


def damaged_tiff() -> bytes:
    """A strip's offset that is a text: Pillow's decoder adds it to a number."""
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "TIFF")
    data = bytearray(stream.getvalue())
    place = data.index(struct.pack("<HH", 273, 4))
    data[place + 2 : place + 4] = struct.pack("<H", 2)  # ASCII in place of LONG
    return bytes(data)


@pytest.mark.parametrize("row", [b"[" * 200_000, b'{"image": ' + b"9" * 10_000 + b"}", b"[{" + b'"a":[' * 90_000])
def test_a_hostile_table_is_an_error_of_its_line(
    row: bytes, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.jsonl").write_bytes(b'{"image": "dog/0.jpg", "text": "a dog"}\n' + row + b"\n")
    assert build_own(raw, tmp_path / "out", table=tmp_path / "table.jsonl") == 2
    assert "table.jsonl, line 2: not JSON" in capsys.readouterr().err


# ---- what is printed and written


def test_names_are_neither_markup_nor_lines_of_their_own(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "[red]x[/red]\n0 problems\x1b]0;title\x07[link=file:///etc/passwd]y[/link]"

    def change(document: dict[str, Any]) -> None:
        document["dataset"] = document["classes"][0] = evil
        for split in document["splits"].values():
            split["labels"] = {evil if name == min(split["labels"]) else name: n for name, n in split["labels"].items()}
        document["notes"] = [evil]
        document["extended"] = {evil: evil}
        document["skipped"] = [{"source": evil, "split": "train", "reason": evil}]

    change_manifest(received, lambda document: document["classes"].sort())
    change_manifest(received, change)
    assert main(["shards", "info", str(received)]) == 0
    assert main(["shards", "verify", str(received), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "\x1b]" not in shown and "\x07" not in shown
    assert not any(line.startswith("0 problems") for line in shown.splitlines())
    assert captured.out.count("[red]x[/red]") >= 5 and "[link=file" in captured.out


def test_no_cell_of_the_table_of_duplicates_is_a_formula(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    names = ("=HYPERLINK(1)", "+A1", "@x", "-A1")
    tar.write_bytes(b"".join(sample(name, json=b'{"text": "t", "source": "=1+1"}') for name in names) + END)
    table = table_of_duplicates(audit([adopt(tar)], workers=1))
    assert "'=HYPERLINK(1),'=1+1" in table
    assert not any(cell[:1] in ("=", "+", "-", "@") for line in table.splitlines() for cell in line.split(","))


# ---- fuzzing


def tiny_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return document | {
        "shapes": {"regions": [2, 3], "image": [4]},
        "skipped": [{"source": "a", "split": "train", "reason": "b"}],
        "notes": ["a"],
        "extended": {MEMBER: "a"},
    }


@pytest.fixture(scope="module")
def small(tiny_samples: tuple[RawSample, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of two samples."""
    folder = tmp_path_factory.mktemp("small") / "shards"
    options = BuildOptions(workers=1, shard_samples=2)
    classes = sorted({label for sample in tiny_samples for label in sample.labels})
    build_shards(folder, dataset="small", classes=classes, samples=tiny_samples[:4], options=options)
    return folder


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_any_manifest_is_read_or_refused(data: st.DataObject, small: Path) -> None:
    content = data.draw(hostile(tiny_document(small)))
    with suppress(XmrError):
        manifest = parse_manifest(content, "manifest.json")
        assert parse_manifest(manifest.encode(), "again") == manifest
    assert EXAMPLES > 0


@st.composite
def arrays(draw: st.DrawFn, *files: bytes) -> bytes:
    """One of these safetensors files with damage anywhere, or with a header that is another in what it says."""
    if draw(st.booleans()):
        return draw(damaged(*files))
    file = draw(st.sampled_from(files))
    size = 8 + int.from_bytes(file[:8], "little")
    document = json.loads(file[8:size])
    if draw(st.booleans()):
        head = draw(hostile(document))
    else:
        about = document[draw(st.sampled_from([name for name in document if name != "__metadata__"]))]
        kind, width = draw(st.sampled_from([*TYPES.items()]))
        count = (about["data_offsets"][1] - about["data_offsets"][0]) // width
        shapes = [[count], [count, 1], [1, count], [0, 2**63], [0, 2**40, 2**40], [count // 2, 2], []]
        about.update(dtype=kind, shape=draw(st.sampled_from(shapes)))
        head = json.dumps(document).encode()
    return len(head).to_bytes(8, "little") + head + file[size:]


TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1, "U8": 1, "I8": 1, "U64": 8,
         "I64": 8, "I32": 4, "U32": 4, "U16": 2, "C64": 8, "F4": 1, "E8M0": 1}  # fmt: skip
"""of safetensors, and bytes of one number"""


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_any_index_is_read_or_refused(data: st.DataObject, small: Path, tmp_path: Path) -> None:
    manifest = load_manifest(small)
    shard = manifest.splits["train"].shards[0]
    index_path(tmp_path / shard.name).write_bytes(data.draw(arrays(index_path(small / shard.name).read_bytes())))
    with suppress(XmrError):
        look_at(load_index(tmp_path / shard.name, shard, len(manifest.classes)), shard.bytes, len(manifest.classes))


def look_at(index: ShardIndex, size: int, classes: int) -> None:
    """The promises of an index that was taken."""
    assert len(index.keys) == len(index.labels) == len(index)
    assert all(0 <= label < classes for row in index.labels for label in row)
    for extension, spans in index.members.items():
        for row in range(len(index)):
            span = index.span(extension, row)
            assert span is None or (span[0] >= 0 and span[1] >= 0 and sum(span) <= size)
        assert spans.shape == (len(index), 2)
    index.count_modalities()
    index.several_images()
    assert all("\n" not in key for key in index.keys)


def signed(data: bytes) -> bytes:
    """The tar with checksums that fit: damaged headers would not be looked at without."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - 511, 512):
        block = blocks[start : start + 512]
        if b"ustar" in block[250:270]:
            block[148:156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % (sum(block) % 8**6)
    return bytes(blocks)


FUZZED_TARS = (
    SOUND + END,
    sample("a", json=b'{"text": ["t", "u"], "label": 3}') + pax(record("path", b"x" * 200 + b".jpg")) + SOUND + END,
    member("L", b"y" * 150 + b".jpg\0", tarfile.GNUTYPE_LONGNAME) + member("y", PICTURE) + SOUND + END,
    member("s.jpg", PICTURE, tarfile.GNUTYPE_SPARSE) + pax(record("GNU.sparse.major", b"1"),
        record("GNU.sparse.minor", b"0"), record("size", b"512")) + member("z.jpg", b"1\n0\n512\n" + PICTURE) + END,
    pax(record("comment", b"x"), record("size", b"6"), kind=tarfile.XGLTYPE) + SOUND + END,
)  # fmt: skip


@pytest.mark.slow
@fuzzed
@given(content=damaged(*FUZZED_TARS))
def test_any_tar_is_scanned_or_has_problems(content: bytes, tmp_path: Path) -> None:
    for each in (content, signed(content)):
        (tmp_path / "a.tar").write_bytes(each)
        found: list[Problem] = []
        index, metadata = scan_shard(tmp_path / "a.tar", problems=found)
        look_at(index, len(each), 1)
        assert len(metadata) == len(index)
        index.encode()
        assert all("\n" not in str(problem) and len(str(problem)) < 5000 for problem in found)


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_any_unfinished_extension_goes_on_or_is_refused(
    data: st.DataObject, small: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("extending")
    folder, victim = place / "shards", place / "victim"
    victim.write_text("mine")
    shutil.copytree(small, folder)
    workshop = folder / ".extending"
    workshop.mkdir()
    shard = load_manifest(folder).splits["train"].shards[0]
    result = {"shard": vars(shard), "modalities": {"image": 2, "text": 2}, "shape": [2, 3]}
    documents = {
        "manifest.json": json.loads((folder / "manifest.json").read_bytes()),
        "request.json": [MEMBER, "made"],
        f"{shard.name}.result.json": result,
    }
    (folder / "manifest.json").unlink()
    chosen = data.draw(st.sampled_from(sorted(documents)))
    for name, document in documents.items():
        content = data.draw(hostile(document)) if name == chosen else json.dumps(document).encode()
        (workshop / name).write_bytes(content)
    with suppress(XmrError):
        extend(folder, data.draw(st.sampled_from(["made", "otherwise"])))
    assert {path.name for path in place.iterdir()} == {"shards", "victim"} and victim.read_text() == "mine"
    shutil.rmtree(place)


@fuzzed
@given(content=arrays(encode_features(np.arange(8, dtype=np.float32)), regions()))
def test_any_features_are_read_or_refused(content: bytes) -> None:
    for decode in (decode_features, decode_regions):
        with suppress(UnusableFeatures):
            decode(content)


@fuzzed
@given(
    document=hostile({"texts": ["a", "b"], "labels": ["c"], "source": "d", "caption": 3.0, "label": [1, None]}),
    text=damaged(b"a text", "ein Text ü".encode("utf-16")),
)
def test_any_metadata_are_read_or_refused(document: bytes, text: bytes) -> None:
    for members in ({"json": document}, {"txt": text, "cls": text}, {"json": document, "txt": text}):
        with suppress(XmrError):
            metadata = decode_metadata(members, "a.tar: key")
            metadata.encode()
            assert all(type(item) is str for item in (*metadata.texts, *metadata.labels, metadata.source))


@pytest.mark.slow
def test_a_sheet_of_large_pictures_takes_little_memory(tmp_path: Path) -> None:
    """Each of them is small in its file, and below the cap of pixels; all of them together are not."""
    stream = io.BytesIO()
    Image.new("L", (6000, 6000)).save(stream, "PNG")
    few, many = (_peak_of_sheet(tmp_path / str(count), stream.getvalue(), count) for count in (1, 12))
    assert many - few <= 500_000  # kB; each of the eleven more has 108 MB
    with Image.open(tmp_path / "12" / "sheet.png") as sheet:
        assert min(sheet.size) > 240


def _peak_of_sheet(folder: Path, png: bytes, count: int) -> int:
    """The peak of memory (kB) of a process that draws the sheet of as many equal pictures."""
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(count):
            for extension, content in (("png", png), ("txt", b"one colour")):
                member = tarfile.TarInfo(f"{number:03}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    assert main(["shards", "index", str(folder / "a.tar"), "--workers", "1"]) == 0
    code = (
        "from xmr_e2e.cli import main; assert main(['shards', 'sheet', '.', 'sheet.png']) == 0; "
        "print(open('/proc/self/status').read())"  # rusage has what this process took before it was another program
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, capture_output=True, text=True)
    (peak,) = (line.split()[1] for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    return int(peak)
