"""XMedia and XMediaNet in their publisher's layout in miniature become shards or a clear error."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load
from scipy.io import savemat
from scipy.sparse import csc_matrix

from preprocessing.common.media import MediaOptions
from preprocessing.common.pku_files import Item, class_names
from preprocessing.xmedia import halve, xmedia
from preprocessing.xmedianet import halve_classes, xmedianet
from tests.helpers.built import manifest, write
from tests.helpers.media_bytes import frames_of, mp4, off, wav
from tests.helpers.raw_xmedia import (
    XMEDIA_KEYS,
    five_views,
    table,
    write_lists,
    xmedia_arrays,
    xmedia_raw,
)
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions
from xmr_e2e.shards.verify import verify

ALONE = BuildOptions(workers=1)
LENIENT = BuildOptions(workers=1, max_skipped=0.5)


def command(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"preprocessing.{module}", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def samples(out: Path) -> dict[str, dict[str, Any]]:
    """All samples by their source, read without this project's reader: split, JSON members, features."""
    found = {}
    for shard in sorted(out.glob("*.tar")):
        members: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                members.setdefault(key, {})[extension] = tar.extractfile(member).read()  # type: ignore[union-attr]
        for own in members.values():
            features = {
                extension.removesuffix(".safetensors"): load(data)["features"]
                for extension, data in own.items()
                if extension.endswith(".safetensors")
            }
            sample = {**json.loads(own["json"]), "split": shard.name.partition("-")[0], "features": features}
            found[sample["source"]] = {**sample, "jpg": own.get("jpg")}
    return found


def xmedianet_raw(folder: Path, *, count: int = 12, **options: Any) -> tuple[Path, dict[str, tuple[str, str, int]]]:
    return folder, write_lists(folder, {"train": count, "test": 8}, 4, **options)


# ---- XMedia


@pytest.mark.slow
def test_xmedia_by_its_command_line(tmp_path: Path) -> None:
    raw, out = xmedia_raw(tmp_path / "raw"), tmp_path / "out"
    done = command("xmedia", raw, out, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "audio" in done.stdout and str(out) in done.stdout.replace("\n", "")
    arrays, found = xmedia_arrays(), samples(out)
    expected = {}
    for modality in ("audio", "video", "shape3d"):
        features, labels, _ = XMEDIA_KEYS[modality]
        for part, name in (("tr", "train"), ("te", "test")):
            rows, numbers = arrays[features.format(part)], arrays[labels.format(part)].ravel()
            for row in range(len(rows)):
                half = "test" if row < len(rows) - len(rows) // 2 else "val"
                split = "train" if part == "tr" else half
                expected[f"{modality}/{name}/{row + 1:05d}"] = (split, f"class {int(numbers[row]):02d}", rows[row])
    assert {s for s in found if not s.startswith("image-text")} == set(expected)
    for source, (split, label, row) in expected.items():
        sample = found[source]
        assert (sample["split"], sample["labels"], sample["texts"], sample["jpg"]) == (split, [label], [], None)
        assert list(sample["features"]) == [source.partition("/")[0]]
        assert np.array_equal(sample["features"][source.partition("/")[0]], row.astype(np.float32))
    assert manifest(out)["required"] == [] and len(manifest(out)["classes"]) == 20
    assert verify(out, workers=1) == []


def test_xmedia_images_and_texts_without_raw_media_are_pairs_of_features(tmp_path: Path) -> None:
    # A bag of words is mostly zeros: MATLAB stores it sparse.
    arrays = xmedia_arrays()
    raw = xmedia_raw(tmp_path / "raw", {"T_tr_BOW": csc_matrix(arrays["T_tr_BOW"])})
    xmedia(raw, tmp_path / "out", build=ALONE)
    found = samples(tmp_path / "out")
    for part, name in (("tr", "train"), ("te", "test")):
        for row, (image, text) in enumerate(zip(arrays[f"I_{part}_CNN"], arrays[f"T_{part}_BOW"])):
            sample = found[f"image-text/{name}/{row + 1:05d}"]
            assert sample["split"] == ("train" if part == "tr" else "test" if row < 3 else "val")
            assert np.array_equal(sample["features"]["image"], image.astype(np.float32))
            assert np.array_equal(sample["features"]["text"], text.astype(np.float32))
    reader = SplitReader(tmp_path / "out", "train")
    assert len(reader.positions_with(["image", "text"])) == 7
    assert len(reader.positions_with(["audio"])) == 4
    assert len(reader.positions_with(["audio", "video"])) == 0
    assert reader.manifest.widths == {"image": 8, "text": 12, "audio": 5, "video": 8, "shape3d": 9}


def test_xmedia_notes_halves_counts_and_widths_that_are_not_the_published_ones(tmp_path: Path) -> None:
    # Sorted by class, as some publish their rows: the halves have no class in common.
    labels = {"teAudCat": np.array([3.0, 3, 5, 5])}
    xmedia(xmedia_raw(tmp_path / "raw", labels), tmp_path / "out", build=ALONE)
    notes = "\n".join(manifest(tmp_path / "out")["notes"])
    assert "first half of each medium is test and the second val" in notes
    assert "audio, train part: 4 samples instead of 800" in notes
    assert "image-text, test part: 6 samples instead of 1000" in notes
    assert "A_te: 5 audio features per sample, not 29" in notes
    assert "audio: 2 classes are in only one of the splits test and val" in notes


def test_xmedia_takes_raw_images_and_texts_from_lists(tmp_path: Path) -> None:
    raw = xmedia_raw(tmp_path / "raw", {"I_tr_CNN": None, "T_te_BOW": None, "teImgCat": None})  # not looked at
    expected = write_lists(raw, {"train": 5, "test": 4}, 20)
    xmedia(raw, tmp_path / "out", build=ALONE)
    found = {source: sample for source, sample in samples(tmp_path / "out").items() if sample["jpg"]}
    assert set(found) == set(expected)
    for number, (source, (part, words, label)) in enumerate(expected.items()):
        sample = found[source]
        assert sample["split"] == ("train" if part == "train" else "test" if number - 5 < 2 else "val")
        assert (sample["texts"], sample["labels"]) == ([words], [f"class {label:02d}"])
        assert sample["jpg"] == (raw / source).read_bytes() and sample["features"] == {}
    assert sum(sample["split"] == "train" for sample in samples(tmp_path / "out").values()) == 5 + 4 + 6 + 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A_tr": None}, r"A_tr is missing; it holds .*A_te"),
        ({"tr3dCat": None}, "tr3dCat is missing"),
        ({"A_te": np.ones((3, 5))}, "A_te has 3 rows, teAudCat 4 labels"),
        ({"teVidCat": np.array([[1.0, 2], [3, 4]])}, r"teVidCat: an array of .* shape \(2, 2\)"),
        ({"teVidCat": np.array([1.5, 2, 3, 4, 5])}, "teVidCat: .* wanted are the numbers of the classes"),
        (
            {"trVidCat": np.array([1.0, 2, 3, 4, 5, 21])},
            "trVidCat: there is no class 21; they are numbered from 1 to 20",
        ),
        ({"V_tr_CNN": np.array(["a", "b"])}, "V_tr_CNN: an array of .* wanted are features"),
        ({"trTxtCat": np.array([9.0, 2, 3, 4, 5, 6, 7])}, "I_tr_CNN and T_tr_BOW have not the same labels"),
        ({"A_te": np.ones((4, 6))}, "has 5 audio features, audio/test/00001 has 6"),
    ],
)
def test_xmedia_malformed_keys_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    raw = xmedia_raw(tmp_path / "raw", changes)
    with pytest.raises(XmrError, match=message):
        xmedia(raw, tmp_path / "out", build=ALONE)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_xmedia_rows_that_are_not_finite_are_skipped(tmp_path: Path) -> None:
    sounds = xmedia_arrays()["A_tr"]
    sounds[1, 2] = np.nan
    xmedia(xmedia_raw(tmp_path / "raw", {"A_tr": sounds}), tmp_path / "out", build=LENIENT)
    skipped = manifest(tmp_path / "out")["skipped"]
    assert [item["source"] for item in skipped] == ["audio/train/00002"]
    assert "not finite" in skipped[0]["reason"]


def test_xmedia_files_that_are_not_matlabs_are_told_from_those_of_version_73(tmp_path: Path) -> None:
    raw = xmedia_raw(tmp_path / "raw")
    path = raw / "XMediaFeatures.mat"
    whole = path.read_bytes()
    for data in (b"", b"not a MATLAB file", whole[:1000], whole[: len(whole) // 2], b"\0" * 200):
        path.write_bytes(data)
        with pytest.raises(XmrError, match=r"XMediaFeatures\.mat: (not a MATLAB file|\S+ is missing)"):
            xmedia(raw, tmp_path / "out", build=ALONE)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2018 HDF5 schema 1.00 ."
    path.write_bytes(header.ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n".rjust(392, b"\0"))
    done = command("xmedia", raw, tmp_path / "out")
    assert done.returncode == 2
    assert "XMediaFeatures.mat" in done.stderr and "version 7.3" in done.stderr and "save it with -v7" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["xmedia", "xmedianet"])
def test_what_is_missing_is_named_with_whom_to_ask(module: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for raw in (tmp_path / "none", tmp_path / "raw", write(tmp_path / "other" / "readme.txt", "hello").parent):
        done = command(module, raw, tmp_path / "out")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        for text in ("img_train_list.txt", "application form", "Peking University", ".mat"):
            assert text in done.stderr


def write_media(raw: Path, counts: Mapping[str, int], classes: int) -> dict[str, tuple[str, str, bytes, int]]:
    """Raw sounds, films and meshes with their lists; returns path -> its part, modality, bytes and class from 1."""
    expected = {}
    kinds = {"aud": ("audio", "wav", wav(0.1)), "vid": ("video", "mp4", mp4(each=1)), "3d": ("shape3d", "off", off())}
    for prefix, (modality, ending, data) in kinds.items():
        for part, count in counts.items():
            lines = []
            for number in range(count):
                path, label = f"{number % classes + 1:03d}/{part}_{number}.{ending}", number % classes + 1
                write(raw / modality / path, data)
                lines.append(f"{path} {label}")
                expected[path] = (part, modality, data, label)
            write(raw / f"{prefix}_{part}_list.txt", "\n".join(lines))
    return expected


@pytest.mark.parametrize("with_features", [True, False])
def test_xmedia_takes_each_medium_raw_where_it_has_lists(with_features: bool, tmp_path: Path) -> None:
    raw = xmedia_raw(tmp_path / "raw") if with_features else tmp_path / "raw"
    expected = write_media(raw, {"train": 3, "test": 4}, 20)
    for part in ("train", "test"):
        (raw / f"vid_{part}_list.txt").unlink()  # videos: features where these are, else nothing
    xmedia(raw, tmp_path / "out", build=ALONE)
    found = SplitReader(tmp_path / "out", "test")
    assert found.manifest.splits["test"].modalities["audio"] == 2
    own = {found.metadata(position).source: position for position in range(len(found))}
    for source, (part, modality, data, label) in expected.items():
        if part == "test" and modality != "video" and int(source.split("_")[1].split(".")[0]) < 2:
            assert found.media(own[source], modality) == (data, source.rpartition(".")[2])
            assert found.metadata(own[source]).labels == (f"class {label:02d}",)
    notes = "\n".join(manifest(tmp_path / "out")["notes"])
    assert ("video" in found.manifest.modalities) == with_features
    assert ("no lists of image-text, video: left out" in notes) == (not with_features)
    assert "raw videos are split" not in notes
    assert "audio, train part: 3 samples instead of 800" in notes


def test_xmedia_says_that_the_split_of_raw_videos_is_another(tmp_path: Path) -> None:
    write_media(tmp_path / "raw", {"train": 3, "test": 4}, 20)
    xmedia(tmp_path / "raw", tmp_path / "out", media=MediaOptions(frames=2), build=ALONE)
    notes = manifest(tmp_path / "out")["notes"]
    assert "raw videos are split by their lists; which of them DRCL tested on is not known" in notes
    assert not any(note.startswith("video, train part") for note in notes)
    reader = SplitReader(tmp_path / "out", "train")
    films = [position for position in range(len(reader)) if reader.has_media(position, "video")]
    assert [len(frames_of(reader.media(position, "video")[0])) for position in films] == [2, 2, 2]


def test_xmedia_lists_without_files_are_an_error_and_single_files_are_skipped(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_media(raw, {"train": 3, "test": 4}, 20)
    (raw / "audio" / "001" / "train_0.wav").unlink()
    xmedia(raw, tmp_path / "out", build=LENIENT)
    (skipped,) = manifest(tmp_path / "out")["skipped"]
    assert skipped["source"] == "001/train_0.wav" and "No such file" in skipped["reason"]
    (raw / "audio").rename(raw / "sounds of another name")
    with pytest.raises(XmrError, match=r"none of the 3 audio files of the part 'train' is there, such as 001/train_0"):
        xmedia(raw, tmp_path / "other", build=ALONE)


# ---- XMediaNet


def test_xmedianet_takes_raw_media_by_lists_and_the_others_as_features(tmp_path: Path) -> None:
    raw, pairs = xmedianet_raw(tmp_path / "raw")
    expected = write_media(raw, {"train": 5, "test": 8}, 4)
    xmedianet(raw, tmp_path / "out", build=ALONE)
    assert manifest(tmp_path / "out")["required"] == []
    found = samples(tmp_path / "out")
    assert set(found) == {*pairs, *expected}
    for source, (part, _, _, label) in expected.items():
        number = int(source.split("_")[1].split(".")[0])
        # Of each of 4 classes, the first of the test list is test and the second val.
        assert found[source]["split"] == ("train" if part == "train" else "test" if number < 4 else "val")
        assert found[source]["labels"] == [f"class {label:03d}"]


@pytest.mark.slow
def test_xmedianet_by_its_command_line(tmp_path: Path) -> None:
    raw, expected = xmedianet_raw(tmp_path / "raw")
    names = write(tmp_path / "names.txt", "\n".join(f"animal {number}" for number in range(1, 201)))
    done = command("xmedianet", raw, tmp_path / "out", "--classes", names, "--workers", 1)
    assert done.returncode == 0, done.stderr
    found = samples(tmp_path / "out")
    assert set(found) == set(expected)
    for source, (part, words, label) in expected.items():
        sample = found[source]
        assert (sample["texts"], sample["labels"]) == ([words], [f"animal {label}"])
        assert sample["jpg"] == (raw / source).read_bytes()
        assert (sample["split"] == "train") == (part == "train")
    # 8 test pairs of 4 classes: of each class, the first is test and the second val.
    test = [source for source, (part, _, _) in expected.items() if part == "test"]
    assert [found[source]["split"] for source in test] == ["test"] * 4 + ["val"] * 4
    assert manifest(tmp_path / "out")["required"] == ["image", "text"]
    assert any("instead of 32,000" in note for note in manifest(tmp_path / "out")["notes"])
    assert verify(tmp_path / "out", workers=1) == []


def test_xmedianet_without_a_validation_split(tmp_path: Path) -> None:
    raw, _ = xmedianet_raw(tmp_path / "raw")
    xmedianet(raw, tmp_path / "out", splits="32k/8k", build=ALONE)
    counts = {name: split["samples"] for name, split in manifest(tmp_path / "out")["splits"].items()}
    assert counts == {"train": 12, "test": 8}
    assert manifest(tmp_path / "out")["classes"][:2] == ["class 001", "class 002"]


def test_halves_hold_the_same_classes_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    for labels in (np.repeat(np.arange(5), 6), rng.permutation(np.repeat(np.arange(5), 6)), np.arange(3)):
        items = [Item(f"item {row}", int(label)) for row, label in enumerate(labels)]
        test, val = halve_classes(items)
        assert sorted([*test, *val], key=items.index) == items
        for half in (test, val):
            assert half == sorted(half, key=items.index)
        for label in set(labels.tolist()):
            places = [row for row, other in enumerate(labels) if other == label]
            middle = (len(places) + 1) // 2
            assert [items.index(item) for item in test if item.label == label] == places[:middle]
            assert [items.index(item) for item in val if item.label == label] == places[middle:]
        first, second = halve(items)
        assert [*first, *second] == items and len(first) - len(second) in (0, 1)


def test_xmedianet_texts_beside_the_images_and_images_in_a_folder_of_their_own(tmp_path: Path) -> None:
    raw, expected = xmedianet_raw(tmp_path / "raw", text_lists=False)
    for part in ("train", "test"):
        assert not (raw / f"txt_{part}_list.txt").exists()
    xmedianet(raw, tmp_path / "out", build=ALONE)
    found = samples(tmp_path / "out")
    assert {source: sample["texts"] for source, sample in found.items()} == {
        s: [w] for s, (_, w, _) in expected.items()
    }
    raw, expected = xmedianet_raw(tmp_path / "elsewhere", base="images")
    xmedianet(raw, tmp_path / "again", build=ALONE)
    assert all(sample["jpg"] for sample in samples(tmp_path / "again").values())


def test_xmedianet_published_features_go_with_their_samples(tmp_path: Path) -> None:
    raw, expected = xmedianet_raw(tmp_path / "raw")
    images = list(expected)
    tables = {
        (prefix, part): table(count, width, width)
        for prefix, width in (("img", 16), ("txt", 6))
        for part, count in (("train", 12), ("test", 8))
    }
    for (prefix, part), rows in tables.items():
        np.savetxt(raw / f"{prefix}_{part}_fea.txt", rows, fmt="%.9g")
    xmedianet(raw, tmp_path / "out", build=ALONE)
    found = samples(tmp_path / "out")
    for row, source in enumerate(images):
        part, own = ("train", row) if row < 12 else ("test", row - 12)
        for prefix, modality in (("img", "image"), ("txt", "text")):
            expected_row = tables[prefix, part][own].astype(np.float32)
            assert np.array_equal(found[source]["features"][modality], expected_row)
        assert found[source]["jpg"] and found[source]["texts"]

    for source in images:  # and without the raw media, as most who have the features
        (raw / source).unlink()
    xmedianet(raw, tmp_path / "features", build=ALONE)
    found = samples(tmp_path / "features")
    assert set(found) == set(images)
    assert all(sample["jpg"] is None and set(sample["features"]) == {"image", "text"} for sample in found.values())
    assert any("only their features" in note for note in manifest(tmp_path / "features")["notes"])
    (raw / "img_test_fea.txt").unlink()
    with pytest.raises(XmrError, match="none of the 8 images of the split 'test' is there"):
        xmedianet(raw, tmp_path / "neither", build=ALONE)


def test_xmedianet_samples_that_cannot_be_used_are_skipped_and_move_no_other(tmp_path: Path) -> None:
    raw, expected = xmedianet_raw(tmp_path / "raw")
    xmedianet(raw, tmp_path / "whole", build=ALONE)
    images = list(expected)
    (raw / images[1]).unlink()
    write(raw / images[2], b"not an image")
    write(raw / images[12].replace(".jpg", "_words.txt"), " \n")
    (raw / images[13].replace(".jpg", "_words.txt")).unlink()
    write(raw / images[14].replace(".jpg", "_words.txt"), "caf\xe9".encode("cp1252"))
    xmedianet(raw, tmp_path / "out", build=LENIENT)
    reasons = {item["source"]: item["reason"] for item in manifest(tmp_path / "out")["skipped"]}
    assert set(reasons) == {images[row] for row in (1, 2, 12, 13)}
    assert "No such file" in reasons[images[1]] and "not an image" in reasons[images[2]]
    assert "is empty" in reasons[images[12]] and "cannot be read" in reasons[images[13]]
    whole, rest = samples(tmp_path / "whole"), samples(tmp_path / "out")
    assert {source: sample["split"] for source, sample in rest.items()} == {
        source: sample["split"] for source, sample in whole.items() if source not in reasons
    }
    assert rest[images[14]]["texts"] == ["café"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("img_train_list.txt", "", "img_train_list.txt is empty"),
        ("img_train_list.txt", "001/a.jpg\n", "line 1: wanted are a path and the number of a class"),
        ("img_train_list.txt", "\n001/a.jpg one\n", "line 2: wanted are a path and the number of a class"),
        ("img_train_list.txt", "3 4 \n. 4", "line 2: wanted are a path"),
        ("img_train_list.txt", "001/a.jpg 0\n", "line 1: there is no class 0; they are numbered from 1 to 200"),
        ("img_train_list.txt", "001/a.jpg 201\n", "line 1: there is no class 201"),
        ("img_train_list.txt", "../a.jpg 1\n", r"line 1: '\.\./a\.jpg' leads out of the folder"),
        ("img_train_list.txt", "/etc/passwd 1\n", "line 1: '/etc/passwd' leads out of the folder"),
        ("img_test_list.txt", "a\\b.jpg 1\n" * 3, "lists 8 texts, img_test_list.txt 3 images"),
        ("txt_test_list.txt", "a.txt 1\nb.txt 2\n" * 4, r"line 2: class 4, but .*txt_test_list\.txt, line 2: class 2"),
        ("img_train_fea.txt", "1 2\n3 4\n", r"img_train_fea\.txt: 2 lines; img_train_list\.txt has 12"),
        ("img_train_fea.txt", "1 2\n3\n" * 6, r"img_train_fea\.txt: not a table of numbers"),
        ("txt_train_fea.txt", "1 b\n" * 12, r"txt_train_fea\.txt: not a table of numbers"),
        ("txt_train_fea.txt", b"\xff\xfe1 2\n", r"txt_train_fea\.txt: not a table of numbers"),
        ("img_train_list.txt", b"1 2\xff\n", "line 1: not UTF-8"),
    ],
)
def test_xmedianet_malformed_lists_and_features_are_named(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    raw, _ = xmedianet_raw(tmp_path / "raw")
    write(raw / name, content)
    with pytest.raises(XmrError, match=message):
        xmedianet(raw, tmp_path / "out", build=ALONE)


def test_xmedianet_an_image_listed_twice_is_an_error(tmp_path: Path) -> None:
    raw, expected = xmedianet_raw(tmp_path / "raw", text_lists=False)
    first = next(iter(expected))
    write(raw / "img_test_list.txt", f"{first} 1\n")
    with pytest.raises(XmrError, match="duplicate sample"):
        xmedianet(raw, tmp_path / "out", build=ALONE)


def test_class_names_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    assert class_names(20, None)[0] == "class 01" and class_names(200, None)[-1] == "class 200"
    for names in (["dog", "cat"], ["dog", "dog", "cat"]):
        path = write(tmp_path / "names.txt", "\n".join(names))
        with pytest.raises(XmrError, match=rf"names\.txt: {len(names)} class names, 2 different ones; wanted are 3"):
            class_names(3, path)


# ---- XMediaNet's five media


def test_xmedianet_features_of_five_media(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    views = five_views()
    savemat(tmp_path / "raw" / "XMediaNet5View_Doc2Vec.mat", views)
    xmedianet(tmp_path / "raw", tmp_path / "out", build=ALONE)
    found = samples(tmp_path / "out")
    assert len(found) == 6 + 4 + 3 + 5 + 2 + 3 + 2 * 4
    for key, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        for view, modality in enumerate(("image", "text", "audio", "shape3d", "video")):
            for row, features in enumerate(views[key][0, view]):
                kind = "image-text" if modality in ("image", "text") else modality
                sample = found[f"{kind}/{split}/{row + 1:05d}"]
                assert sample["split"] == split and sample["labels"] == [f"class {row + 1:03d}"]
                assert np.array_equal(sample["features"][modality], features.astype(np.float32))
    xmedianet(tmp_path / "raw", tmp_path / "merged", splits="32k/8k", build=ALONE)
    splits = manifest(tmp_path / "merged")["splits"]
    assert splits["test"]["modalities"] == {"image": 4, "text": 4, "audio": 3, "video": 3, "shape3d": 3}
    assert "val" not in splits


def test_xmedianet_pairs_come_from_the_lists_where_there_are_both(tmp_path: Path) -> None:
    raw, expected = xmedianet_raw(tmp_path / "raw")
    savemat(raw / "XMediaNet5View_Doc2Vec.mat", five_views())
    xmedianet(raw, tmp_path / "out", build=ALONE)
    found = samples(tmp_path / "out")
    assert {source for source, sample in found.items() if sample["jpg"]} == set(expected)
    assert len(found) == len(expected) + 4 + 3 + 5 + 3 + 6
    assert manifest(tmp_path / "out")["required"] == []
    assert SplitReader(tmp_path / "out", "train").manifest.modalities == ("image", "text", "audio", "video", "shape3d")


def test_xmedianet_malformed_cells_are_named(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "XMediaNet5View_Doc2Vec.mat"

    def lose_a_row(views: dict[str, list[NDArray[Any]]]) -> None:
        views["valid"][4] = np.ones((3, 7))

    wrong = {
        r"valid\{5\} has 3 rows, valid_labels\{5\} 1 labels": five_views(lose_a_row),
        "valid_labels is missing": {key: value for key, value in five_views().items() if key != "valid_labels"},
        r"train: an array of float64 .* wanted is a cell array with 5 cells": {
            **five_views(),
            "train": np.ones((2, 5)),
        },
        r"test: an array of object and shape \(1, 4\)": {**five_views(), "test": five_views()["test"][:, :4]},
    }
    for message, arrays in wrong.items():
        savemat(path, arrays)
        with pytest.raises(XmrError, match=message):
            xmedianet(tmp_path / "raw", tmp_path / "out", build=ALONE)
