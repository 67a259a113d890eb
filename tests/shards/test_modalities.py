"""Samples with any modalities: what is built is what is read, damage is found, and a member can be added later."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load, load_file, save, save_file

from xmr_e2e.cli import main
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.adopt import adopt_shards
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.features import (
    StoredRegions,
    UnusableFeatures,
    decode_features,
    decode_regions,
    encode_features,
    encode_regions,
)
from xmr_e2e.shards.index import index_path, load_index
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.shards.record import Record
from xmr_e2e.shards.scan import scan_shard
from xmr_e2e.shards.verify import verify
from xmr_e2e.shards.writer import write_shard

CLASSES = ["dog", "bell"]
HAS: dict[str, tuple[str, ...]] = {
    "pair-1": ("image", "text"),
    "pair-2": ("image", "text"),
    "published-pair": ("image", "text"),
    "sound": ("audio",),
    "raw-sound": ("audio",),
    "film": ("text", "video"),
    "shape": ("shape3d",),
    "all": ("image", "text", "audio", "video", "shape3d"),
}


def vector(seed: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=width).astype(np.float32)


@pytest.fixture
def samples(make_image: Callable[..., Path], tmp_path: Path) -> tuple[RawSample, ...]:
    """Samples with the modalities that HAS says, raw or as features."""
    raw = tmp_path / "raw"
    pictures = [make_image(raw / f"{number}.jpg", seed=number) for number in range(3)]
    sound, film, shape = (raw / name for name in ("a.WAV", "b.mp4", "c.off"))
    for number, path in enumerate((sound, film, shape)):
        path.write_bytes(bytes([number, 255, 0, 10]) * 300)
    return (
        RawSample("pair-1", "train", pictures[0], ("a dog",), ("dog",)),
        RawSample("pair-2", "train", pictures[1], ("a bell", "once more"), ("bell",), {"image": vector(1, 16)}),
        RawSample("published-pair", "train", labels=("dog",), features={"image": vector(2, 16), "text": vector(3, 30)}),
        RawSample("sound", "train", labels=("bell",), features={"audio": vector(4, 29)}),
        RawSample("raw-sound", "train", labels=("bell",), media={"audio": sound}),
        RawSample("film", "train", None, ("a film of a dog",), ("dog",), {"video": vector(5, 4096)}),
        RawSample("shape", "train", labels=("dog",), features={"shape3d": vector(6, 47)}),
        RawSample(
            "all",
            "test",
            pictures[2],
            ("a dog",),
            ("dog",),
            {"audio": vector(7, 29), "shape3d": vector(8, 47)},
            {"audio": sound, "video": film, "shape3d": shape},
        ),
    )


def build(out: Path, samples: Sequence[RawSample], required: Sequence[str] = (), **options: Any) -> Manifest:
    chosen = BuildOptions(**{"shard_samples": 3, "workers": 1, **options})
    return build_shards(out, dataset="five", classes=CLASSES, samples=samples, required=required, options=chosen)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def problems(folder: Path) -> list[str]:
    return [str(problem) for problem in verify(folder, workers=1)]


def by_source(reader: SplitReader) -> dict[str, int]:
    return {reader.metadata(position).source: position for position in range(len(reader))}


# ---- building and reading


def test_the_reader_gives_back_what_was_built(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    for split in ("train", "test"):
        reader = SplitReader(tmp_path / "out", split)
        positions = by_source(reader)
        for sample in (sample for sample in samples if sample.split == split):
            position = positions[sample.source]
            record = reader.read(position)
            assert record.image == (sample.image.read_bytes() if sample.image else None)
            assert record.metadata.texts == sample.texts
            assert [CLASSES[label] for label in record.labels] == list(sample.labels)
            assert reader.modalities(position) == HAS[sample.source]
            for modality, features in sample.features.items():
                found = reader.features(position, modality)
                assert found.dtype == np.float32 and np.array_equal(found, features)
    assert problems(tmp_path / "out") == []


def test_raw_media_are_carried_byte_for_byte(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    shard = tmp_path / "out" / "test-00000.tar"
    index, data = load_index(shard), shard.read_bytes()
    for modality, extension in (("audio", "wav"), ("video", "mp4"), ("shape3d", "off")):
        span = index.span(extension, 0)
        assert span and data[span[0] : sum(span)] == samples[-1].media[modality].read_bytes()


def test_positions_with_are_those_that_have_all_modalities(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    reader = SplitReader(tmp_path / "out", "train")
    sources = {position: source for source, position in by_source(reader).items()}
    for wanted in (["image"], ["text"], ["audio"], ["image", "text"], ["text", "video"], ["image", "audio"], []):
        found = reader.positions_with(wanted)
        assert found.dtype == np.int64
        assert found.tolist() == [p for p in range(len(reader)) if set(wanted) <= set(HAS[sources[p]])]


def test_the_manifest_says_what_there_is(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    manifest = build(tmp_path / "out", samples)
    assert manifest == load_manifest(tmp_path / "out")
    assert manifest.modalities == ("image", "text", "audio", "video", "shape3d")
    assert manifest.required == ()
    assert manifest.widths == {"image": 16, "text": 30, "audio": 29, "video": 4096, "shape3d": 47}
    assert manifest.splits["train"].modalities == {"image": 3, "text": 4, "audio": 2, "video": 1, "shape3d": 1}
    assert set(manifest.splits["test"].modalities.values()) == {1}


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "one", samples)
    build(tmp_path / "two", samples, workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_repeated_build_sees_changes_of_features_and_media(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    copies = [replace(sample, features={k: v.copy() for k, v in sample.features.items()}) for sample in samples]
    build(tmp_path / "out", copies)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    changed = vector(4, 29)
    changed[28] += 1e-3
    sounds = [replace(s, features={"audio": changed}) if s.source == "sound" else s for s in samples]
    for other in (sounds, samples):
        if other is samples:
            samples[-1].media["video"].write_bytes(b"another film")
        with pytest.raises(XmrError, match="made from other input"):
            build(tmp_path / "out", other)


def test_a_sample_without_a_required_modality_is_skipped_with_the_reason(
    samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    manifest = build(tmp_path / "out", samples, required=("image", "text"), max_skipped=1.0)
    reasons = {item.source: item.reason for item in manifest.skipped}
    assert set(reasons) == {source for source, has in HAS.items() if not {"image", "text"} <= set(has)}
    assert reasons["film"] == "film: has no image"
    assert "has no image" in reasons["sound"]
    assert manifest.required == ("image", "text")
    texts_only = [replace(sample, texts=(" ", "")) for sample in samples if sample.source.startswith("pair")]
    with pytest.raises(XmrError, match="has no text, or only empty ones"):
        build(tmp_path / "texts", texts_only, required=("text",), max_skipped=1.0)
    with pytest.raises(XmrError, match="has none of image, text, audio, video, shape3d"):
        build(tmp_path / "none", [RawSample("nothing", "train")], max_skipped=1.0)


def test_features_of_unequal_width_are_an_error_that_names_both_sources(
    samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    odd = RawSample("odd", "test", features={"audio": vector(1, 30)})
    with pytest.raises(XmrError, match=r"sound has 29 audio features, odd has 30"):
        build(tmp_path / "out", [*samples, odd])
    with pytest.raises(XmrError, match=r"odd: its audio features have the shape \(1, 29\)"):
        build(tmp_path / "out", [replace(odd, features={"audio": vector(1, 29)[None]})])
    with pytest.raises(XmrError, match=r"odd: modality 'smell' is none of image, text"):
        build(tmp_path / "out", [replace(odd, features={"smell": vector(1, 29)})])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"features": {"audio": np.array([1.0, np.nan], np.float32)}}, "audio features: .* not finite"),
        ({"features": {"audio": np.array([1.0, 1e300])}}, "audio features: .* not finite"),
        ({"media": {"audio": Path("sound.aiff")}}, "none of wav, flac, mp3"),
        ({"media": {"video": Path("gone.mp4")}}, "cannot be read: No such file"),
        ({"media": {"shape3d": Path("/dev/null.obj")}}, "cannot be read"),
    ],
)
def test_features_and_media_that_cannot_be_used_are_skipped(
    fields: dict[str, Any], reason: str, samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    bad = RawSample("bad", "train", **fields)
    good = RawSample("good", "train", texts=("a text",))
    manifest = build(tmp_path / "out", [good, bad], max_skipped=0.5)
    assert [item.source for item in manifest.skipped] == ["bad"]
    assert re.search(reason, manifest.skipped[0].reason)


def test_an_empty_media_file_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(XmrError, match=r"a\.wav is empty \(zero bytes\)"):
        build(tmp_path / "out", [RawSample("bad", "train", media={"audio": tmp_path / "a.wav"})])


def test_reading_what_a_sample_lacks_names_it(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    reader = SplitReader(tmp_path / "out", "train")
    position = by_source(reader)["pair-1"]
    with pytest.raises(XmrError, match=rf"{reader.key(position)}: this sample has no published image features"):
        reader.features(position, "image")
    with pytest.raises(XmrError, match=rf"{reader.key(position)}: this sample has no regions"):
        reader.regions(position)


# ---- the members themselves


def test_features_are_plain_safetensors_and_the_same_bytes_each_time() -> None:
    features = vector(0, 7)
    data = encode_features(features)
    assert data == encode_features(features[::1].astype(np.float64)) == encode_features(np.repeat(features, 2)[::2])
    (header_size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_size])
    assert header["features"]["dtype"] == "F32" and header["features"]["shape"] == [7]
    assert data[8 + header_size :] == features.tobytes()
    assert np.array_equal(decode_features(data), features)


def regions(count: int = 3, width: int = 8, seed: int = 0, dtype: type = np.float16) -> StoredRegions:
    rng = np.random.default_rng(seed)
    return StoredRegions(
        rng.normal(size=(count, width)).astype(dtype),
        rng.random((count, 5)).astype(np.float32),
        rng.integers(0, 90, count),
    )


def test_regions_are_given_back_as_they_were() -> None:
    for dtype in (np.float16, np.float32):
        stored = regions(dtype=dtype)
        assert set(load(encode_regions(stored))) == {"features", "boxes", "classes"}
        for found, expected in zip(list[Any](decode_regions(encode_regions(stored))), list[Any](stored), strict=True):
            assert found.dtype == expected.dtype and np.array_equal(found, expected)


def test_regions_that_do_not_agree_are_refused() -> None:
    good = regions()
    nan = good.boxes.copy()
    nan[1, 2] = np.nan
    wrong = {
        "boxes of shape": good._replace(boxes=good.boxes[:2]),
        r"\(3, 4\)": good._replace(boxes=good.boxes[:, :4].copy()),
        "classes of shape": good._replace(classes=good.classes[:, None]),
        "boxes hold numbers that are not finite": good._replace(boxes=nan),
        "classes are int32": good._replace(classes=good.classes.astype(np.int32)),
        "features are float64": good._replace(features=good.features.astype(np.float64)),
        r"\(0, 8\)": StoredRegions(good.features[:0], good.boxes[:0], good.classes[:0]),
    }
    for message, stored in wrong.items():
        with pytest.raises(UnusableFeatures, match=message):
            encode_regions(stored)
        with pytest.raises(UnusableFeatures, match=message):
            decode_regions(save({name: np.ascontiguousarray(array) for name, array in stored._asdict().items()}))


# ---- damage


def change_member(shard: Path, extension: str, data: bytes | None) -> str:
    """Replace the first member with this extension (None: take it out), mend the index; return the sample's key."""
    index, _ = scan_shard(shard, CLASSES, required=())
    content = shard.read_bytes()
    row = int((index.members[extension][:, 0] >= 0).argmax())
    changed = []
    for number, key in enumerate(index.keys):
        spans = {name: span for name in index.members if (span := index.span(name, number))}
        members = {name: content[span[0] : sum(span)] for name, span in spans.items()}
        if number == row:
            members.pop(extension)
            members |= {extension: data} if data is not None else {}
        changed.append((key, members))
    write_shard(shard, changed)
    index_path(shard).write_bytes(scan_shard(shard, CLASSES, problems=[])[0].encode())
    return index.keys[row]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a safetensors file"),
        (b"\x80\x04K\x01.", "not a safetensors file"),
        (save({"vector": vector(0, 29)}), "holds vector instead of features"),
        (save({"features": vector(0, 28)}), r"features of shape \(28,\); the manifest says \(29,\)"),
        (save({"features": vector(0, 29)[None]}), r"features of shape \(1, 29\); wanted is one vector"),
        (save({"features": vector(0, 29).astype(np.float64)}), "features are float64; wanted is float32"),
        (save({"features": np.full(29, np.inf, np.float32)}), "not finite"),
    ],
)
def test_verify_names_the_key_of_features_that_cannot_be_used(
    data: bytes, message: str, samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    build(tmp_path / "out", samples)
    key = change_member(tmp_path / "out" / "test-00000.tar", "audio.safetensors", data)
    found = [problem for problem in problems(tmp_path / "out") if key in problem]
    assert len(found) == 1
    assert re.search(message, found[0]) and ".audio.safetensors" in found[0]


def test_reading_features_of_another_width_names_shard_and_key(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    key = change_member(tmp_path / "out/test-00000.tar", "audio.safetensors", save({"features": vector(0, 28)}))
    reader = SplitReader(tmp_path / "out", "test")
    position = next(each for each in range(len(reader)) if reader.key(each) == key)
    with pytest.raises(XmrError, match=rf"test-00000.tar: {key}.*features of shape \(28,\); the manifest says \(29,\)"):
        reader.features(position, "audio")


def test_verify_finds_a_modality_that_was_taken_out(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    tars = sorted((tmp_path / "out").glob("train*.tar"))
    lone = next(tar for tar in tars if "shape3d.safetensors" in load_index(tar).members)
    key = change_member(lone, "shape3d.safetensors", None)
    found = problems(tmp_path / "out")
    assert any(key in problem and "holds neither image, text, audio, video nor shape3d" in problem for problem in found)
    assert "train: 0 samples have shape3d; the manifest says 1" in found


def test_verify_finds_an_index_that_counts_other_texts(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    build(tmp_path / "out", samples)
    shard = tmp_path / "out" / "test-00000.tar"
    index = load_index(shard)
    index_path(shard).write_bytes(replace(index, texts=index.texts + 1).encode())
    found = problems(tmp_path / "out")
    assert len(found) == 1 and index.keys[0] in found[0] and "texts" in found[0]


def test_an_index_without_the_number_of_texts_is_refused(tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    path = index_path(folder / "train-00000.tar")
    arrays = load_file(path)
    assert arrays.pop("texts").tolist() == [len(SplitReader(folder, "train").metadata(p).texts) for p in range(8)]
    save_file(arrays, path)
    with pytest.raises(XmrError, match="rebuild the shards"):
        load_index(folder / "train-00000.tar")
    document = json.loads((folder / "manifest.json").read_text()) | {"version": 1}
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(XmrError, match=r"version 1.*--overwrite"):
        load_manifest(folder)


# ---- adopted tars


def test_features_beside_images_and_texts_are_adopted(make_image: Callable[..., Path], tmp_path: Path) -> None:
    jpeg = make_image(tmp_path / "a.jpg").read_bytes()
    items = [
        (f"k{n}", {"jpg": jpeg, "txt": b"text", "cls": b"1", "regions.safetensors": encode_regions(regions(seed=n))})
        for n in range(3)
    ]
    items[1][1]["mp3"] = b"sound"
    (tmp_path / "set").mkdir()
    tar = tmp_path / "set" / "0.tar"
    write_shard(tar, items)
    folder, manifest = adopt_shards({"train": [tar]}, workers=1)
    assert manifest.widths == {"regions": 8} and manifest.shapes == {"regions": (3, 8)}
    assert manifest.splits["train"].modalities == {"image": 3, "text": 3, "audio": 1}
    assert problems(folder) == []
    assert SplitReader(folder, "train").regions(2).features.tolist() == regions(seed=2).features.tolist()

    items[2][1]["regions.safetensors"] = encode_regions(regions(count=4))
    write_shard(tar, items)
    adopt_shards({"train": [tar]}, workers=1)
    assert ["k2" in problem and "(4, 8)" in problem for problem in problems(folder)] == [True]


# ---- the command line


def test_info_counts_modalities_and_shows_widths(
    samples: tuple[RawSample, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "out", samples)
    assert main(["shards", "info", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    header, train = (next(line for line in shown.splitlines() if word in line) for word in ("shape3d ", " train "))
    columns = [cell.strip() for cell in header.replace("┃", "|").split("|")]
    counts = dict(zip(columns, (cell.strip() for cell in train.replace("│", "|").split("|"))))
    assert {name: counts[name] for name in ("samples", "image", "text", "audio", "video", "shape3d")} == {
        "samples": "7", "image": "3", "text": "4", "audio": "2", "video": "1", "shape3d": "1"
    }  # fmt: skip
    assert "audio 29" in shown and "video 4096" in shown


def test_the_sheet_has_a_tile_for_samples_without_a_picture(
    samples: tuple[RawSample, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "out", samples)
    sheet = tmp_path / "sheet.png"
    assert main(["shards", "sheet", str(tmp_path / "out"), str(sheet), "--columns", "3"]) == 0
    assert "7 samples drawn" in capsys.readouterr().out
    assert Image.open(sheet).width > 3 * 240
    assert problems(tmp_path / "out") == []
    # Unlike `problems`, the command decodes what was carried as it is: here, bytes that are neither sound nor shape.
    assert main(["shards", "verify", str(tmp_path / "out"), "--workers", "1"]) == 1
    assert "raw_sound: .wav: not a sound that can be read" in capsys.readouterr().out


# ---- a member that is added later


def pixels_as_features(records: Sequence[Record]) -> list[bytes | None]:
    """Something that follows from the image's bytes; nothing where there is no image."""
    hashed = [record.image and int.from_bytes(hashlib.sha256(record.image).digest()[:4]) for record in records]
    return [encode_regions(regions(seed=seed)) if seed else None for seed in hashed]


def extend(folder: Path, encode: Any = pixels_as_features, note: str = "hashed", **options: Any) -> Manifest:
    return extend_shards(folder, "regions.safetensors", encode, batch=3, note=note, **options)


def test_an_extension_adds_one_member_and_changes_no_other(samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    before = build(folder, samples)
    readers = [SplitReader(folder, split) for split in before.splits]
    old = {reader.split: [reader.read(position) for position in range(len(reader))] for reader in readers}
    manifest = extend(folder)
    assert manifest == load_manifest(folder)
    assert manifest.widths == {**before.widths, "regions": 8}
    assert manifest.extended == {"regions.safetensors": "hashed"}
    assert problems(folder) == [] and not (folder / ".extending").exists()
    for split, records in old.items():
        reader = SplitReader(folder, split)
        assert [reader.read(position) for position in range(len(reader))] == records
        for position, record in enumerate(records):
            data = pixels_as_features([record])[0]
            if data is None:
                with pytest.raises(XmrError, match="no regions"):
                    reader.regions(position)
            else:
                assert encode_regions(reader.regions(position)) == data
    build(folder, samples)  # the builder sees that its input is the same, and leaves the extension
    assert load_manifest(folder) == manifest


@pytest.mark.slow
def test_an_extension_that_is_done_is_not_done_again(
    tiny_shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    calls: list[int] = []

    def encode(records: Sequence[Record]) -> list[bytes | None]:
        calls.append(len(records))
        return pixels_as_features(records)

    first = extend(folder, encode)
    assert sum(calls) == 64 and set(calls) == {3, 2, 1}
    calls.clear()
    caplog.set_level("INFO")
    assert extend(folder, encode) == first
    assert calls == [] and "nothing to do" in caplog.text
    with pytest.raises(XmrError, match=r"already has regions\.safetensors \(hashed\); replace them with --overwrite"):
        extend(folder, note="otherwise")
    again = extend(folder, lambda records: [encode_regions(regions(5, 4))] * len(records), "otherwise", overwrite=True)
    assert again.shapes == {"regions": (5, 4)} and again.extended == {"regions.safetensors": "otherwise"}
    assert problems(folder) == []
    none = extend(folder, lambda records: [None] * len(records), "none at all", overwrite=True)
    assert none.shapes == {} and hashes(folder)["train-00000.tar"] == hashes(tiny_shards)["train-00000.tar"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last_file", "shards_done"),
    [
        pytest.param(".extending/manifest.json", 1, id="before the first shard is replaced"),
        pytest.param(".extending/train-00001.tar.result.json", 2, id="between shards"),
        pytest.param("train-00001.tar", 2, id="between tar and index"),
        pytest.param(".extending/train-00002.index.safetensors", 2, id="within a shard"),
        pytest.param("manifest.json", 9, id="at the end"),
    ],
)
def test_a_killed_extension_goes_on_to_the_same_bytes(
    last_file: str, shards_done: int, tiny_shards: Path, tmp_path: Path
) -> None:
    whole, folder = (Path(shutil.copytree(tiny_shards, tmp_path / name)) for name in ("whole", "killed"))
    extend(whole)

    def extend_until_killed() -> None:
        replace_file = os.replace

        def replace_and_die(source: Path, target: Path) -> None:
            replace_file(source, target)
            if Path(target) == folder / last_file:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace_and_die  # type: ignore[assignment]
        extend(folder)

    process = multiprocessing.get_context("fork").Process(target=extend_until_killed)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    if last_file != "manifest.json":
        with pytest.raises(XmrError, match="being extended: run that command again"):
            load_manifest(folder)
    encoded: list[str] = []

    def encode(records: Sequence[Record]) -> list[bytes | None]:
        encoded.extend(record.key for record in records)
        return pixels_as_features(records)

    extend(folder, encode)
    assert hashes(folder) == hashes(whole)
    assert problems(folder) == []
    sizes = [shard.samples for split in load_manifest(folder).splits.values() for shard in split.shards]
    assert len(encoded) == sum(sizes[shards_done:])  # finished shards are not made again


@pytest.mark.slow
def test_an_extension_begun_in_another_way_is_made_anew(tiny_shards: Path, tmp_path: Path) -> None:
    whole, folder = (Path(shutil.copytree(tiny_shards, tmp_path / name)) for name in ("whole", "begun"))
    extend(whole)
    left = [30]

    def encode(records: Sequence[Record]) -> list[bytes | None]:
        left[0] -= len(records)
        if left[0] < 0:
            raise KeyboardInterrupt
        return [encode_regions(regions(7, 2))] * len(records)

    with pytest.raises(KeyboardInterrupt):
        extend(folder, encode, "another detector")
    with pytest.raises(XmrError, match=r"regions\.safetensors is being added \(another detector\)"):
        extend_shards(folder, "image.safetensors", lambda records: [], batch=1, note="")
    for note in ("a third detector", "a fourth detector"):
        with pytest.raises(KeyboardInterrupt):
            extend(folder, encode, note)  # ends before it has made anything
    extend(folder)
    assert hashes(folder) == hashes(whole)
    assert problems(folder) == []


def test_an_extension_that_fails_at_once_leaves_the_dataset_as_it_was(tiny_shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    before = hashes(folder)
    uneven = iter([encode_regions(regions(3)), encode_regions(regions(4)), *[None] * 6])

    def out_of_memory(records: Sequence[Record]) -> list[bytes | None]:
        raise MemoryError

    with pytest.raises(MemoryError):
        extend(folder, out_of_memory)
    with pytest.raises(XmrError, match=r"features of shape \(4, 8\); others have \(3, 8\)"):
        extend(folder, lambda records: [next(uneven) for _ in records])
    with pytest.raises(XmrError, match=r"not a safetensors file"):
        extend(folder, lambda records: [b"pickle"] * len(records))
    assert hashes(folder) == before
    assert problems(folder) == []


def test_damaged_or_adopted_shards_are_not_extended(
    tiny_shards: Path, make_image: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    data = (folder / "train-00000.tar").read_bytes()
    (folder / "train-00000.tar").write_bytes(data[:5000] + b"x" + data[5001:])
    with pytest.raises(XmrError, match=r"train-00000\.tar: missing, or not what the manifest says"):
        extend(folder)
    (tmp_path / "set").mkdir()
    write_shard(tmp_path / "set" / "0.tar", [("k", {"jpg": make_image(tmp_path / "a.jpg").read_bytes(), "txt": b"t"})])
    adopted, _ = adopt_shards({"train": [tmp_path / "set" / "0.tar"]}, workers=1)
    with pytest.raises(XmrError, match="made by another tool"):
        extend(adopted)
