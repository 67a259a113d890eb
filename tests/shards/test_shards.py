"""Shards are plain WebDataset tars, the same bytes each time, and damage to them is found."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from tests.helpers.dying import die_after
from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.adopt import adopt_shards
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.index import index_path, load_index
from xmr_e2e.shards.manifest import Manifest, Shard, load_manifest
from xmr_e2e.shards.scan import Problem, scan_shard
from xmr_e2e.shards.schema import decode_metadata, key_of
from xmr_e2e.shards.sheet import Tile, contact_sheet
from xmr_e2e.shards.verify import verify

Members = list[tuple[str, bytes]]
CLASSES = ["apple", "leaf", "sea", "sun"]


def build(out: Path, samples: tuple[RawSample, ...], **options: Any) -> Manifest:
    chosen = BuildOptions(**{"shard_samples": 8, "workers": 1, **options})
    return build_shards(out, dataset="tiny", classes=CLASSES, samples=samples, options=chosen)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def read_members(shard: Path) -> Members:
    with tarfile.open(shard) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def write_members(shard: Path, members: Members) -> None:
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def sign(folder: Path) -> None:
    """Make the manifest's sizes, counts and checksums agree with the tars: deeper checks must find the damage."""
    manifest = load_manifest(folder)
    splits = {}
    for name, split in manifest.splits.items():
        shards = []
        for shard in split.shards:
            data = (folder / shard.name).read_bytes()
            keys = {name.partition(".")[0] for name, _ in read_members(folder / shard.name)}
            shards.append(Shard(shard.name, len(keys), len(data), hashlib.sha256(data).hexdigest()))
        splits[name] = replace(split, shards=tuple(shards))
    replace(manifest, splits=splits).save(folder)


def problems(folder: Path) -> list[str]:
    return [str(problem) for problem in verify(folder, workers=1)]


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy of the tiny shards, to be damaged."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "shards"))


# ---- what a build makes


def test_webdataset_reads_the_same_bytes_and_metadata(tiny_shards: Path, tiny_samples: tuple[RawSample, ...]) -> None:
    sources = {sample.source: sample for sample in tiny_samples}
    seen = []
    for shard in sorted(tiny_shards.glob("*.tar")):
        for item in webdataset.WebDataset(str(shard), shardshuffle=False):
            metadata = json.loads(item["json"])
            sample = sources[metadata["source"]]
            assert item["jpg"] == sample.image.read_bytes()
            assert metadata["texts"] == list(sample.texts)
            assert metadata["labels"] == list(sample.labels)
            assert shard.name.startswith(sample.split)
            assert item["__key__"] == key_of(sample.source)
            seen.append(sample.source)
    assert sorted(seen) == sorted(sources)


def test_the_index_gives_each_members_bytes(tiny_shards: Path) -> None:
    shard = tiny_shards / "train-00001.tar"
    index = load_index(shard)
    data = shard.read_bytes()
    found = {}
    for row, key in enumerate(index.keys):
        for extension, spans in index.members.items():
            offset, size = spans[row]
            found[f"{key}.{extension}"] = data[offset : offset + size]
    assert found == dict(read_members(shard))
    own_labels = [json.loads(found[f"{key}.json"])["labels"] for key in index.keys]
    assert [[CLASSES[label] for label in row] for row in index.labels] == own_labels


def test_the_manifest_counts_what_the_tars_hold(tiny_shards: Path) -> None:
    manifest = load_manifest(tiny_shards)
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 40, "val": 12, "test": 12}
    assert [shard.samples for shard in manifest.splits["val"].shards] == [8, 4]
    assert manifest.splits["train"].labels == dict.fromkeys(CLASSES, 10)
    digests = hashes(tiny_shards)
    for split in manifest.splits.values():
        for shard in split.shards:
            assert shard.sha256 == digests[shard.name]
            assert shard.bytes == (tiny_shards / shard.name).stat().st_size


@pytest.mark.slow
def test_two_builds_give_the_same_bytes_with_one_worker_and_with_two(
    tiny_shards: Path, tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    build(tmp_path / "again", tuple(reversed(tiny_samples)), workers=2)
    first, second = hashes(tiny_shards), hashes(tmp_path / "again")
    # The manifest differs in the fingerprint alone: the order of the input is part of it.
    del first["manifest.json"], second["manifest.json"]
    assert first == second
    assert load_manifest(tmp_path / "again").splits == load_manifest(tiny_shards).splits


def test_keys_are_ascii_unique_and_sortable() -> None:
    sources = ["a/b.jpg", "a.b.jpg", "Größe 猫.png", "猫", "犬", "x" * 300, "x" * 299]
    keys = [key_of(source) for source in sources]
    assert len(set(keys)) == len(sources)
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,77}", key), key
    assert key_of("a/b.jpg") == keys[0]


def test_resize_makes_the_shorter_side_fit_and_leaves_small_images(
    make_image: Callable[..., Path], tmp_path: Path
) -> None:
    sizes = {"wide": (200, 100), "tall": (60, 300), "small": (30, 20)}
    samples = tuple(
        RawSample(name, "train", make_image(tmp_path / f"{name}.png", size=size), ("text",), ("sea",))
        for name, size in sizes.items()
    )
    build(tmp_path / "out", samples, resize=50)
    members = dict(read_members(tmp_path / "out" / "train-00000.tar"))
    found = {name: Image.open(io.BytesIO(members[f"{key_of(name)}.jpg"])) for name in sizes}
    assert {name: image.size for name, image in found.items()} == {
        "wide": (100, 50),
        "tall": (50, 250),
        "small": (30, 20),
    }
    assert {image.format for image in found.values()} == {"JPEG"}


def test_a_repeated_build_does_nothing(shards: Path, tiny_samples: tuple[RawSample, ...]) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    build(shards, tiny_samples)
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == before


# ---- interrupted builds


@pytest.mark.parametrize(
    "last_file",
    [
        pytest.param("train-00001.index.safetensors", id="within a shard"),
        pytest.param("train-00001.result.json", id="between shards"),
        pytest.param("train-00002.tar", id="while publishing"),
    ],
)
def test_a_killed_build_goes_on_to_the_same_bytes(
    last_file: str, tiny_shards: Path, tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def build_until_killed() -> None:
        die_after(last_file)
        build(out, tiny_samples)

    process = multiprocessing.get_context("fork").Process(target=build_until_killed)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    with pytest.raises(XmrError, match="unfinished"):
        load_manifest(out)

    build(out, tiny_samples)
    assert hashes(out) == hashes(tiny_shards)
    assert not (out / ".building").exists()


def test_a_resumed_build_keeps_finished_shards(
    tiny_samples: tuple[RawSample, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmr_e2e.shards import build as module

    make_shard = module.make_shard
    made: list[str] = []
    allowed = 3

    def make_some(task: Any) -> None:
        if len(made) == allowed:
            raise KeyboardInterrupt
        made.append(task.path.name)
        make_shard(task)

    monkeypatch.setattr(module, "make_shard", make_some)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "out", tiny_samples)
    allowed = 100
    build(tmp_path / "out", tiny_samples)
    assert sorted(made) == sorted(path.name for path in (tmp_path / "out").glob("*.tar"))  # each was made once


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import time; from xmr_e2e.shards.parallel import map_shards; "
        "map_shards(time.sleep, [90, 90], sizes=[1, 1], title='sleeping', workers=2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")

    def workers() -> list[int]:
        pids = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    deadline = time.monotonic() + 20
    while len(pids := workers()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    time.sleep(1.0)  # spawned is not yet started
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_shards_are_built_without_torch(tmp_path: Path, make_image: Callable[..., Path]) -> None:
    """It takes seconds and 200 MB of each process that builds."""
    image = make_image(tmp_path / "a.jpg")
    program = (
        "import sys; from pathlib import Path; from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards; "
        "sample = RawSample('a', 'train', Path(sys.argv[1]), ('a text',), ('a',)); "
        "options = BuildOptions(workers=1); "
        "build_shards(Path(sys.argv[2]), dataset='a', classes=['a'], samples=[sample], options=options); "
        "print('torch' in sys.modules)"
    )
    words = [sys.executable, "-c", program, str(image), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


@pytest.mark.slow
def test_ctrl_c_while_the_workers_start_ends_them_without_a_word_of_theirs() -> None:
    program = (
        # A shell's job in the background, as tests may be, ignores Ctrl-C, and so do its children.
        "import signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from xmr_e2e.console import report_errors; from xmr_e2e.shards.parallel import map_shards; "
        "sys.exit(report_errors(lambda: map_shards(time.sleep, [90, 90], sizes=[1, 1], title='sleeping', workers=2)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, start_new_session=True)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 20
    while len(pids := children.read_text().split()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    # Two workers, which have not yet imported what they need, and a tracker of resources.
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == 130 and len(pids) == 3
    assert b"Traceback" not in errors and b"interrupted" in errors
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_where_no_processes_can_share_anything_one_is_the_way_out(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))  # as a semaphore without a usable /dev/shm

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    with pytest.raises(XmrError, match=r"/dev/shm, which cannot be used here \(Read-only file system\); --workers 1"):
        verify(shards, workers=2)
    assert verify(shards, workers=1) == []


# ---- verify


def test_verify_finds_nothing_wrong_with_a_fresh_build(tiny_shards: Path) -> None:
    assert problems(tiny_shards) == []


def test_verify_finds_a_flipped_byte_anywhere(shards: Path) -> None:
    shard = shards / "val-00001.tar"
    whole = shard.read_bytes()
    for place in range(0, len(whole), len(whole) // 25):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert any("val-00001.tar" in problem and "sha256" in problem for problem in problems(shards)), place


def test_verify_names_the_key_of_an_image_that_does_not_decode(shards: Path) -> None:
    shard = shards / "train-00002.tar"
    key = load_index(shard).keys[3]
    offset, size = load_index(shard).members["jpg"][3]
    data = bytearray(shard.read_bytes())
    data[offset : offset + size // 2] = bytes(size // 2)
    shard.write_bytes(data)
    sign(shards)
    assert [problem for problem in problems(shards) if key in problem and "not an image" in problem]
    assert len(problems(shards)) == 1


@pytest.mark.parametrize("where", ["middle of a member", "member boundary", "end mark"])
def test_verify_finds_a_cut_tar_and_still_checks_the_others(where: str, shards: Path) -> None:
    shard, other = shards / "train-00001.tar", shards / "train-00003.tar"
    index = load_index(shard)
    offset, size = index.members["json"][4]
    boundary = int(offset + (size + 511) // 512 * 512)
    data = shard.read_bytes()
    cut = {"middle of a member": boundary - 700, "member boundary": boundary, "end mark": len(data.rstrip(b"\0")) + 512}
    shard.write_bytes(data[: cut[where]])
    other.unlink()
    found = problems(shards)
    assert any("train-00001.tar" in problem and "bytes; the manifest says" in problem for problem in found)
    assert any("train-00001.tar" in problem and re.search("cut|not a whole tar", problem) for problem in found)
    assert any("train-00003.tar" in problem and "No such file" in problem for problem in found)
    if where != "end mark":
        for key in index.keys[5:]:
            assert any(key in problem and "not in the tar" in problem for problem in found)


@pytest.mark.parametrize(("extension", "message"), [("jpg", "image member is missing"), ("json", "text is missing")])
def test_verify_names_the_key_of_a_missing_member(extension: str, message: str, shards: Path) -> None:
    shard = shards / "test-00000.tar"
    keys = load_index(shard).keys
    lost = {f"{keys[2]}.{extension}", f"{keys[5]}.{extension}"}
    write_members(shard, [member for member in read_members(shard) if member[0] not in lost])
    found = problems(shards)
    for key in (keys[2], keys[5]):
        assert any(key in problem and message in problem for problem in found)


def test_verify_finds_members_that_are_not_adjacent(shards: Path) -> None:
    shard = shards / "train-00000.tar"
    members = read_members(shard)
    members[1], members[2] = members[2], members[1]
    write_members(shard, members)
    key = members[0][0].partition(".")[0]
    assert any(key in problem and "adjacent" in problem for problem in problems(shards))


def test_verify_finds_a_wrong_order_within_a_shard_and_between_shards(shards: Path) -> None:
    first, second = shards / "train-00000.tar", shards / "train-00001.tar"
    members = read_members(first)
    write_members(first, [*members[2:4], *members[:2], *members[4:]])
    index_path(first).write_bytes(scan_shard(first, CLASSES)[0].encode())
    sign(shards)
    key = members[0][0].partition(".")[0]
    assert [problem for problem in problems(shards) if "out of order" in problem and key in problem]
    assert len(problems(shards)) == 1

    write_members(first, read_members(second))
    write_members(second, members)
    for shard in (first, second):
        index_path(shard).write_bytes(scan_shard(shard, CLASSES)[0].encode())
    sign(shards)
    assert [problem for problem in problems(shards) if "train-00001.tar" in problem and "out of order" in problem]


def test_verify_finds_a_key_in_two_shards(shards: Path) -> None:
    first, second = shards / "train-00000.tar", shards / "train-00001.tar"
    repeated = read_members(first)[-2:]
    write_members(second, repeated + read_members(second))
    index_path(second).write_bytes(scan_shard(second, CLASSES)[0].encode())
    sign(shards)
    key = repeated[0][0].partition(".")[0]
    assert any(key in problem and "also in train-00000.tar" in problem for problem in problems(shards))


def test_verify_finds_a_key_twice_in_a_row(shards: Path) -> None:
    shard = shards / "train-00000.tar"
    members = read_members(shard)
    write_members(shard, members[:2] + members)
    assert any(members[0][0].partition(".")[0] in problem and "two ." in problem for problem in problems(shards))


def test_verify_finds_an_index_that_does_not_fit(shards: Path) -> None:
    index = load_index(shards / "val-00000.tar")
    index.members["jpg"][3] += 512
    index_path(shards / "val-00000.tar").write_bytes(index.encode())
    shutil.copy(index_path(shards / "train-00000.tar"), index_path(shards / "train-00001.tar"))
    index_path(shards / "train-00002.tar").unlink()
    index_path(shards / "train-00003.tar").write_bytes(b"no index")
    found = problems(shards)
    assert any("val-00000.tar" in problem and index.keys[3] in problem and "1 samples" in problem for problem in found)
    assert sum("train-00001.tar" in problem and "in the index, but not in the tar" in problem for problem in found) == 8
    assert sum("train-00001.tar" in problem and "in the tar, but not in the index" in problem for problem in found) == 8
    assert any("train-00002" in problem and "missing or damaged" in problem for problem in found)
    assert any("train-00003" in problem and "missing or damaged" in problem for problem in found)


def test_verify_finds_labels_that_the_manifest_counts_otherwise(shards: Path) -> None:
    manifest = load_manifest(shards)
    split = manifest.splits["val"]
    labels = {**split.labels, "sea": 4}
    replace(manifest, splits={**manifest.splits, "val": replace(split, labels=labels)}).save(shards)
    assert problems(shards) == ["val: 3 samples are labelled 'sea'; the manifest says 4"]


@pytest.mark.processes
def test_verify_works_in_two_processes(shards: Path) -> None:
    (shards / "val-00000.tar").unlink()
    assert [str(problem) for problem in verify(shards, workers=2)] == problems(shards) != []


# ---- adopting tars made elsewhere


def write_foreign_tar(path: Path, items: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), encoder=True) as tar:
        for item in items:
            tar.write(item)
    return path


def img2dataset_item(number: int, image: bytes, **fields: Any) -> dict[str, Any]:
    caption = f'caption, "number" {number}: naïve 猫'
    key, url = f"{number:09d}", f"https://example.org/{number}.jpg"
    document = {"caption": caption, "url": url, "key": key, "status": "success", "error_message": None, "exif": "{}"}
    return {"__key__": key, "jpg": image, "txt": caption, "json": {**document, "width": 64, "height": 48, **fields}}


@pytest.fixture
def jpeg(make_image: Callable[..., Path], tmp_path: Path) -> bytes:
    return make_image(tmp_path / "picture.jpg").read_bytes()


def test_img2dataset_tars_are_adopted_as_they_are(jpeg: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    train = [
        write_foreign_tar(
            folder / f"0000{tar}.tar", [img2dataset_item(10 * tar + n, jpeg, label=n % 11) for n in range(11)]
        )
        for tar in (1, 0)  # keys do not ascend over the split
    ]
    val = [write_foreign_tar(folder / "00009.tar", [img2dataset_item(n, jpeg, label="10") for n in range(95, 99)])]
    before = hashes(folder)
    with pytest.raises(XmrError, match="000000010: the key is also in"):
        adopt_shards({"train": train, "val": val}, workers=1)
    assert hashes(folder) == before  # nothing is written beside tars that are not in order

    train[1] = write_foreign_tar(train[1], [img2dataset_item(n, jpeg, label=n) for n in range(10)])
    before = hashes(folder)
    _, manifest = adopt_shards({"train": train, "val": val}, dataset="web", workers=1)
    assert {name: digest for name, digest in hashes(folder).items() if name.endswith(".tar")} == before
    assert manifest == load_manifest(folder)
    assert manifest.classes == tuple(map(str, range(11)))  # by value, not as words
    assert [shard.name for shard in manifest.splits["train"].shards] == ["00001.tar", "00000.tar"]
    assert manifest.splits["val"].labels["10"] == 4
    assert load_index(train[1]).labels == tuple((n,) for n in range(10))
    assert problems(folder) == []
    adopt_shards({"train": train}, workers=1)  # and once more, without the validation split
    assert list(load_manifest(folder).splits) == ["train"]


def test_cls_and_txt_members_and_lists_of_labels_are_adopted(jpeg: bytes, tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [
        {"__key__": "a", "jpeg": jpeg, "txt": "one", "cls": 7},
        {"__key__": "b", "jpg": jpeg, "json": {"text": "two", "labels": ["dog", "snow", "dog"]}},
        {"__key__": "part/c", "jpg": jpeg, "json": {"texts": ["three", " "], "caption": None, "labels": []}},
    ]
    tar = write_foreign_tar(tmp_path / "set" / "0.tar", items)
    folder, manifest = adopt_shards({"test": [tar]}, workers=1)
    assert manifest.dataset == folder.name == "set"
    assert manifest.classes == ("7", "dog", "snow")
    assert manifest.multi_label
    index, metadata = scan_shard(tar, manifest.classes)
    assert index.keys == ("a", "b", "part/c")
    assert index.labels == ((0,), (1, 2), ())
    assert [item.texts for item in metadata] == [("one",), ("two",), ("three",)]
    assert problems(folder) == []


def test_foreign_samples_without_image_or_text_are_all_named(jpeg: bytes, tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [
        {"__key__": "good", "jpg": jpeg, "txt": "text"},
        {"__key__": "blind", "txt": "text"},
        {"__key__": "mute", "jpg": jpeg, "json": {"caption": " "}, "txt": ""},
        {"__key__": "odd", "jpg": jpeg, "txt": "text", "json": {"label": {"name": "dog"}}},
    ]
    tar = write_foreign_tar(tmp_path / "set" / "0.tar", items)
    with pytest.raises(XmrError) as caught:
        adopt_shards({"train": [tar]}, workers=1)
    for line in (
        "0.tar: blind: the image member is missing",
        "0.tar: mute: the text is missing",
        '0.tar: odd: "label"',
    ):
        assert line in str(caught.value)
    assert "good" not in str(caught.value)
    assert not (tmp_path / "set" / "manifest.json").exists()


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


UNUSABLE: dict[str, tuple[dict[str, bytes], str]] = {
    "null": ({"json": b'{"caption": null}'}, "the text is missing"),
    "nan": ({"json": b'{"caption": NaN}'}, "the text is missing"),
    "object": ({"json": b'{"texts": {"en": "a"}}'}, '"texts" must be a string or a list of strings, not {"en": "a"}'),
    "bool": ({"json": b'{"caption": "a", "label": true}'}, '"label" must be a string or a list of strings, not true'),
    "deep": ({"json": b"[" * 100_000}, "the metadata cannot be read"),
    "latin": ({"txt": b"caf\xe9"}, "the metadata cannot be read"),
    "utf16": ({"txt": "a".encode("utf-16-le")}, "save it as UTF-8"),
    "dots": ({"1.jpg": b"x", "1.txt": b"x"}, "a key ends at the first dot of the file's name"),
}


def test_samples_that_cannot_be_used_are_left_out_and_named(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set" / "0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for key, (members, _) in UNUSABLE.items():
            for extension, data in {**({} if key == "dots" else {"jpg": jpeg}), **members}.items():
                add(tar, f"{key}.{extension}", data)
        for key, kind in (("hard", tarfile.LNKTYPE), ("symbolic", tarfile.SYMTYPE)):
            add(tar, f"{key}.txt", b"text")
            add(tar, f"{key}.jpg", type=kind, linkname="good.jpg")
        add(tar, "._good.jpg", b"AppleDouble")
        add(tar, "folder", type=tarfile.DIRTYPE)
        add(tar, f"folder/{'long' * 50}.jpg", jpeg)
        add(tar, f"folder/{'long' * 50}.txt", "\ufeffein Hund".encode())
        add(tar, "good.jpg", jpeg)
        add(tar, "good.txt", "ein Hund".encode("utf-16"))
        add(tar, "good.cls", b"3\n")
    with pytest.raises(XmrError, match=r"10 of 12 samples cannot be used, more than --max-skipped 0\.01 allows:\n  0"):
        adopt_shards({"train": [path]}, workers=1)
    assert not list(path.parent.glob("*.json")) and not list(path.parent.glob("*.safetensors"))

    folder, manifest = adopt_shards({"train": [path]}, max_skipped=0.9, workers=1)
    reasons = {item.source.removeprefix("0.tar/"): item.reason for item in manifest.skipped}
    assert reasons.keys() == {*UNUSABLE, "hard", "symbolic"}
    for key, (_, reason) in UNUSABLE.items():
        assert reason in reasons[key], reasons[key]
    assert ".jpg is a link to 'good.jpg'" in reasons["hard"]
    assert load_index(path).keys == (f"folder/{'long' * 50}", "good")
    assert [item.texts for item in scan_shard(path, without=reasons)[1]] == [("ein Hund",), ("ein Hund",)]
    assert manifest.splits["train"].samples == 2 and manifest.classes == ("3",)
    assert any("train: 1 of 2 samples have no label (0.tar/folder/long" in note for note in manifest.notes)
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("document", "texts", "labels"),
    [
        ({"text": "", "caption": "A dog", "label": "dog"}, ("A dog",), ("dog",)),
        ({"texts": [" "], "text": None, "caption": "A dog", "labels": [], "label": ["dog"]}, ("A dog",), ("dog",)),
        ({"texts": ["A", None, ""], "caption": "B", "labels": "", "label": 3.0}, ("A",), ("3",)),
        ({"text": 5, "labels": [None, 7]}, ("5",), ("7",)),
        ({"text": "half \ud83d of one", "label": float("nan")}, ("half \ufffd of one",), ()),
    ],
)
def test_the_first_field_that_is_not_blank_counts(document: object, texts: object, labels: object) -> None:
    found = decode_metadata({"json": json.dumps(document).encode()}, "here")
    assert (found.texts, found.labels) == (texts, labels)


@pytest.mark.parametrize(
    ("packed", "name"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"),
     (lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd"), (lambda data: b"PK\3\4" + data, "zip archive")],
)  # fmt: skip
def test_a_packed_tar_is_named_whatever_it_is_called(
    packed: Callable[[bytes], bytes], name: str, jpeg: bytes, tmp_path: Path
) -> None:
    tar = write_foreign_tar(tmp_path / "0.tar", [{"__key__": "a", "jpg": jpeg, "txt": "t"}])
    tar.write_bytes(packed(tar.read_bytes()))
    with pytest.raises(XmrError, match=rf"0\.tar: .*{name}; unpack it first: samples are read by their place"):
        adopt_shards({"train": [tar]}, max_skipped=1, workers=1)


def test_of_two_images_in_one_sample_it_is_told_which_is_taken(jpeg: bytes, tmp_path: Path) -> None:
    items = [{"__key__": "a", "png": jpeg, "jpg": jpeg, "txt": "t"}, {"__key__": "b", "jpg": jpeg, "txt": "t"}]
    _, manifest = adopt_shards({"train": [write_foreign_tar(tmp_path / "0.tar", items)]}, workers=1)
    (note,) = manifest.notes
    assert "0.tar: 1 samples hold several images (a first); the first of .jpg, .png" in note


def test_damaged_tars_are_told(jpeg: bytes, tmp_path: Path) -> None:
    tar = write_foreign_tar(tmp_path / "0.tar", [{"__key__": "a", "jpg": jpeg, "txt": "t"}])
    whole, random, told = tar.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(0, 512, 4):
            data[place] = random.integers(256)
        tar.write_bytes(data)
        found: list[Problem] = []
        scan_shard(tar, problems=found)
        told += bool(found)
    assert told > 40  # where the name alone is hit, the tar is another and whole


def test_adopting_refuses_what_is_no_dataset(shards: Path, jpeg: bytes, tmp_path: Path) -> None:
    one, two = (
        write_foreign_tar(tmp_path / name / "0.tar", [{"__key__": "a", "jpg": jpeg, "txt": "t"}]) for name in "ab"
    )
    refused: dict[str, dict[str, list[Path]]] = {
        "no tars": {"train": [], "val": []},
        "one folder": {"train": [one, two]},
        "given twice": {"train": [one], "val": [one]},
        "does not exist": {"train": [tmp_path / "none.tar"]},
        "built by this program": {"train": sorted(shards.glob("train*.tar"))},
    }
    for message, splits in refused.items():
        with pytest.raises(XmrError, match=message):
            adopt_shards(splits, workers=1)


# ---- the command line


def test_xmr_shards_info_shows_splits_classes_and_what_was_skipped(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((shards / "manifest.json").read_text())
    document["skipped"] = [{"source": f"[bold]{n}", "split": "train", "reason": "zero bytes"} for n in range(12)]
    (shards / "manifest.json").write_text(json.dumps(document))
    assert main(["shards", "info", str(shards)]) == 0
    shown = capsys.readouterr().out
    for text in ("tiny", "train", "40", "apple", "skipped (12)", "[bold]9 (train): zero bytes", "2 more"):
        assert text in shown


def test_xmr_shards_verify_tells_by_its_exit_status(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "verify", str(shards), "--workers", "1"]) == 0
    assert "64 samples" in capsys.readouterr().out
    (shards / "val-00000.tar").write_bytes(b"")
    assert main(["shards", "verify", str(shards), "--workers", "1"]) == 1
    assert "val-00000.tar" in capsys.readouterr().out


def test_xmr_shards_sheet_draws_the_samples(tiny_shards: Path, tmp_path: Path) -> None:
    command = [
        "shards",
        "sheet",
        str(tiny_shards),
        str(tmp_path / "new" / "sheet.png"),
        "--split",
        "val",
        "--count",
        "5",
    ]
    assert main([*command, "--columns", "3"]) == 0
    three = Image.open(tmp_path / "new" / "sheet.png").copy()
    assert main([*command, "--columns", "5"]) == 0
    five = Image.open(tmp_path / "new" / "sheet.png")
    assert five.width > three.width and three.height > five.height
    distances = np.abs(np.asarray(three, int) - (40, 170, 60)).max(axis=2)
    assert (distances < 6).sum() > 1000  # a leaf's picture is on it; JPEG moves a colour by a step or two


def test_xmr_shards_index_adopts_and_says_what_to_do_next(
    jpeg: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = (
        write_foreign_tar(tmp_path / "set" / f"{n}.tar", [img2dataset_item(n, jpeg, label="dog")]) for n in range(2)
    )
    assert main(["shards", "index", str(train), "--val", str(val), "--dataset", "mine", "--workers", "1"]) == 0
    assert "xmr shards verify" in capsys.readouterr().out
    assert load_manifest(tmp_path / "set").dataset == "mine"


def test_what_a_user_can_mend_is_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["info"], ["verify"], ["sheet", str(tmp_path / "x.png")]):
        assert main(["shards", command[0], str(tmp_path), *command[1:]]) == 2
        errors = capsys.readouterr().err
        assert "manifest.json does not exist" in errors and "Traceback" not in errors
    with pytest.raises(SystemExit) as caught:
        main(["shards", "sheet", str(tmp_path), "x.png", "--cout", "3"])
    assert caught.value.code == 2


def test_a_contact_sheet_wraps_long_text_and_shows_marks() -> None:
    image = Image.new("RGB", (50, 80), (0, 0, 250))
    short = contact_sheet([Tile(image, "title", "text")])
    long = contact_sheet([Tile(image, "title", "words " * 40)])
    endless = contact_sheet([Tile(image, "title", "w" * 5000)])
    assert short.width == long.width == endless.width
    assert short.height < long.height <= endless.height < 3 * short.height
    marked = contact_sheet([Tile(image, "Straße", "猫", mark="#2e7d32")])
    assert (np.asarray(marked) == (46, 125, 50)).all(axis=2).sum() > 500
    assert not (np.asarray(short) == (46, 125, 50)).all(axis=2).any()
    assert contact_sheet([], heading="no results").width > 0
