"""Tables that people have: Parquet files and datasets of the Hugging Face hub become shards, or a clear error."""

from __future__ import annotations

import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from preprocessing.arrow.hub import OnDisk, Published
from preprocessing.arrow.pictures import picture_folder
from tests.helpers.built import image_bytes, manifest, samples, write
from tests.helpers.stored import stored
from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import RawSample
from xmr_e2e.shards.raw import RawTree

CAPTIONS = datasets.Features(
    {
        "photo": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "animal": datasets.ClassLabel(names=["dog", "cat", "bird"]),
        "width": datasets.Value("int32"),
    }
)


def jpeg(number: int) -> bytes:
    return image_bytes((number * 3 % 256, 40, 90))


def rows(count: int = 6, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "photo": {"bytes": jpeg(start + number), "path": f"{number}.jpg"},
            "captions": [f"picture {start + number}", f"the same {start + number}"],
            "animal": number % 2,
            "width": 12,
        }
        for number in range(count)
    ]


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def pictures(count: int) -> list[bytes]:
    return [jpeg(number) for number in range(count)]


def from_parquet(given: object, out: Path, *options: str) -> int:
    return main(["shards", "from-parquet", str(given), str(out), "--workers", "1", *options])


def from_hf(given: object, out: Path, *options: str) -> int:
    return main(["shards", "from-hf", str(given), str(out), "--workers", "1", *options])


def refused(capsys: pytest.CaptureFixture[str], out: Path) -> str:
    """The error, in one line; nothing is left of what it ended."""
    assert not out.exists()
    return " ".join(capsys.readouterr().err.split())


def saved(folder: Path, **counts: int) -> Path:
    """A dataset as `save_to_disk` leaves it."""
    splits = {
        name: datasets.Dataset.from_list(rows(count, start=100 * place), features=CAPTIONS)
        for place, (name, count) in enumerate(counts.items())
    }
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


# Datasets


def test_a_saved_dataset_keeps_its_bytes_captions_classes_and_splits(tmp_path: Path) -> None:
    raw = saved(tmp_path / "animals", train=6, validation=2, test=2)
    assert from_hf(raw, tmp_path / "out") == 0
    found = stored(tmp_path / "out")
    assert Counter(split for split, _ in found) == {"train": 6, "val": 2, "test": 2}
    assert {sample.image for (split, _), sample in found.items() if split == "train"} == {jpeg(i) for i in range(6)}
    assert {(sample.texts[0][-1], sample.labels) for (split, _), sample in found.items() if split == "train"} == {
        (str(number), (("dog", "cat")[number % 2],)) for number in range(6)
    }
    assert all(len(sample.texts) == 2 for sample in found.values())
    about = manifest(tmp_path / "out")
    assert about["dataset"] == "animals" and about["classes"] == ["dog", "cat", "bird"]
    assert (
        "from the folder animals, by datasets: pictures of photo, texts of captions, labels of animal" in about["notes"]
    )
    assert "columns not used: width" in about["notes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["animals", "out"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_set_in_one_split_is_split_with_a_seed_and_copies_stay_together(tmp_path: Path) -> None:
    raw = saved(tmp_path / "animals", train=40)
    assert from_hf(raw, tmp_path / "one", "--val", "0.2", "--test", "0.2") == 0
    assert from_hf(raw, tmp_path / "again", "--val", "0.2", "--test", "0.2") == 0
    assert from_hf(raw, tmp_path / "other", "--val", "0.2", "--test", "0.2", "--seed", "1") == 0
    one, again, other = (stored(tmp_path / name) for name in ("one", "again", "other"))
    assert Counter(split for split, _ in one) == {"train": 24, "val": 8, "test": 8}
    assert again == one and other != one


def test_the_same_table_again_has_nothing_to_do_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    raw, out = saved(tmp_path / "animals", train=6, test=2), tmp_path / "out"
    assert from_hf(raw, out) == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert from_hf(raw, out) == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert from_hf(saved(tmp_path / "others", train=6, test=2), out) == 2
    assert "already holds the dataset 'animals'" in " ".join(capsys.readouterr().err.split())
    assert from_hf(tmp_path / "others", out, "--overwrite") == 0
    assert manifest(out)["dataset"] == "others"


def test_pictures_in_folders_are_read_from_where_they_lie(tmp_path: Path) -> None:
    """imagefolder, with captions in metadata.csv; PNG and JPEG keep their bytes."""
    for split, count in (("train", 4), ("test", 2)):
        lines = ["file_name,caption"]
        for number in range(count):
            write(tmp_path / "raw" / split / f"{number}.png", image_bytes((number, 9, 9), "PNG"))
            lines.append(f"{number}.png,number {number} of {split}")
        write(tmp_path / "raw" / split / "metadata.csv", "\n".join(lines) + "\n")
    assert from_hf(tmp_path / "raw", tmp_path / "out") == 0
    found = stored(tmp_path / "out")
    assert {sample.image for sample in found.values()} == {image_bytes((number, 9, 9), "PNG") for number in range(4)}
    assert all(sample.texts[0].endswith(split) and not sample.labels for (split, _), sample in found.items())


def test_a_row_for_each_caption_becomes_one_sample(tmp_path: Path) -> None:
    """But not where labels differ, which stay two samples."""
    columns: dict[str, list[Any]] = {
        "image": [jpeg(0), jpeg(0), jpeg(1), jpeg(2), jpeg(2)],
        "caption": ["a", "b", "c", "d", "e"],
        "label": ["x", "x", "y", "x", "y"],
    }
    path = table(tmp_path / "train.parquet", columns)
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0") == 0
    found = sorted((sample["texts"], sample["labels"]) for sample in samples(tmp_path / "out").values())
    assert found == [(["a", "b"], ["x"]), (["c"], ["y"]), (["d"], ["x"]), (["e"], ["y"])]
    assert "5 rows are of 4 pictures, whose texts are put together" in manifest(tmp_path / "out")["notes"]


def test_a_folder_reads_the_same_through_datasets_and_without(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("validation", 50), ("test", 60)):
        dataset = datasets.Dataset.from_list(rows(4, start), features=CAPTIONS)
        (tmp_path / "raw" / "data").mkdir(parents=True, exist_ok=True)
        dataset.to_parquet(tmp_path / "raw" / "data" / f"{split}-00000-of-00001.parquet")
    assert from_parquet(tmp_path / "raw", tmp_path / "one") == 0
    assert from_hf(tmp_path / "raw", tmp_path / "other") == 0

    def contents(shards: Path) -> set[object]:
        return {(split, sample) for (split, _), sample in stored(shards).items()}

    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert len(contents(tmp_path / "one")) == 12


# Columns and splits


def test_columns_and_splits_can_be_chosen(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "left": pictures(6),
        "right": [jpeg(50 + number) for number in range(6)],
        "title": [f"t{number}" for number in range(6)],
        "body": [["b", None, "c"], [], None, ["d"], ["e"], ["f"]],
        "tags": [["x", "y"], ["y"], None, ["x"], [], ["x"]],
        "part": ["train", "restval", "dev", "test", "train", "extra"],
    }
    path = table(tmp_path / "all.parquet", columns)
    chosen = "--image right --text title body --label tags --split-column part --name mine".split()
    assert from_parquet(path, tmp_path / "out", *chosen, "--splits", "restval", "train", "extra", "none") == 0
    found = sorted((each["split"], each["texts"], each["labels"]) for each in samples(tmp_path / "out").values())
    assert found == [
        ("test", ["t3", "d"], ["x"]),
        ("train", ["t0", "b", "c"], ["x", "y"]),
        ("train", ["t1"], ["y"]),
        ("train", ["t4", "e"], []),
        ("val", ["t2"], []),
    ]
    assert {sample.image for sample in stored(tmp_path / "out").values()} == {jpeg(50 + number) for number in range(5)}
    about = manifest(tmp_path / "out")
    assert about["dataset"] == "mine" and about["multi_label"]
    assert "1 rows are of splits that are left out (--splits)" in about["notes"]


def test_numbers_of_classes_are_in_the_order_of_their_value(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"image": pictures(3), "text": ["a", "b", "c"], "label": [10, 9, 3]}
    path = table(tmp_path / "t.parquet", columns)
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0") == 0
    assert manifest(tmp_path / "out")["classes"] == ["3", "9", "10"]


@pytest.mark.parametrize(
    ("columns", "options", "problem"),
    [
        (
            {"a": [1], "b": [2.0]},
            "",
            "has no column of pictures: choose one with --image. Its columns are a (int64), b",
        ),
        ({"x": [b"1"], "y": [b"2"], "text": ["t"]}, "", "has several columns of pictures: choose one with --image"),
        ({"image": [b"1"], "en": ["t"], "de": ["t"]}, "", "several columns that may hold texts: choose with --text"),
        ({"image": [b"1"], "n": [1]}, "", "no column of texts: choose one with --text; pictures alone are taken if"),
        ({"image": [b"1"], "text": ["t"]}, "--label category", "--label: {} has no column 'category'. Its columns are"),
        ({"image": [b"1"], "text": ["t"], "n": [1.5]}, "--label n", "--label n: the column holds double"),
        ({"image": [b"1"], "text": ["t"], "n": [1]}, "--text n", "--text n: the column holds int64"),
        ({"image": [b"1"], "text": ["t"], "n": [1]}, "--image n", "--image n: the column holds int64, no pictures"),
        ({"image": [b"1"], "text": ["t"], "split": ["odd"]}, "", "the split 'odd' is none of train, val, dev, valid"),
        ({"image": [b"1"], "text": ["t"]}, "--splits odd middle", "--splits odd middle: wanted is train, val, test or"),
        ({"image": [b"1"], "text": ["t"]}, "--val 1.5", "--val must be at most 1, not 1.5"),
        ({"image": [b"1"], "text": ["t"]}, "", "1 of 1 samples cannot be used, more than --max-skipped 0.01 allows"),
        ({"image": ["../secret.jpg"], "text": ["t"]}, "", "row 0: ../secret.jpg leads out of"),
        ({"image": ["/etc/passwd"], "text": ["t"]}, "", "row 0: /etc/passwd leads out of"),
        ({"image": ["link.jpg"], "text": ["t"]}, "", "row 0: link.jpg leads out of"),
        ({"image": ["a\0b"], "text": ["t"]}, "", "row 0: 'a\\x00b' is no path"),
    ],
)
def test_what_cannot_be_told_or_used_is_refused(
    columns: dict[str, list[Any]],
    options: str,
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "secret.jpg", jpeg(0))
    path = table(tmp_path / "raw" / "table.parquet", columns)
    (tmp_path / "raw" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    assert from_parquet(path, tmp_path / "out", *options.split()) == 2
    assert problem.format(path) in refused(capsys, tmp_path / "out")


def test_paths_are_read_beside_the_table_and_outside_if_asked(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere.jpg", jpeg(1))
    write(tmp_path / "raw" / "photos" / "0.jpg", jpeg(0))
    columns: dict[str, list[Any]] = {"image": ["photos/0.jpg", "../elsewhere.jpg"], "text": ["a", "b"]}
    path = table(tmp_path / "raw" / "t.parquet", columns)
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0", "--outside") == 0
    assert {sample.image for sample in stored(tmp_path / "out").values()} == {jpeg(0), jpeg(1)}


def test_broken_pictures_are_left_out_within_the_bound_and_named(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "image": [*pictures(4), b"no picture", None, jpeg(5)[:-60] + b"\xff\xd9"],
        "text": ["a", "b", "c", " ", "e", "f", "g"],
    }
    path = table(tmp_path / "t.parquet", columns)
    assert from_parquet(path, tmp_path / "out", "--max-skipped", "0.6", "--val", "0", "--test", "0") == 0
    reasons = {item["source"]: item["reason"] for item in manifest(tmp_path / "out")["skipped"]}
    assert set(reasons) == {f"row/{number:08d}" for number in (3, 4, 5, 6)}
    assert "has no text" in reasons["row/00000003"] and "has no image" in reasons["row/00000005"]
    assert reasons["row/00000004"].startswith(f"{path}, row 4: not an image")
    assert len(samples(tmp_path / "out")) == 3


def test_pictures_alone_and_texts_alone_are_taken_if_asked(tmp_path: Path) -> None:
    only = table(tmp_path / "p.parquet", {"image": pictures(2), "n": [1, 2]})
    assert from_parquet(only, tmp_path / "out", "--image", "image", "--val", "0", "--test", "0") == 0
    assert all(sample.image and not sample.texts for sample in stored(tmp_path / "out").values())
    texts = table(tmp_path / "t.parquet", {"title": ["a", "b"]})
    assert from_parquet(texts, tmp_path / "texts", "--text", "title", "--val", "0", "--test", "0") == 0
    assert all(sample.texts and not sample.image for sample in stored(tmp_path / "texts").values())


# Files of strangers


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = table(tmp_path / "whole.parquet", {"image": pictures(40), "text": ["t"] * 40}).read_bytes()
    for number, content in enumerate([b"", b"PAR1", whole[:-100], whole[:40] + bytes(600) + whole[640:]]):
        path = write(tmp_path / f"{number}.parquet", content)
        assert from_parquet(path, tmp_path / "out") == 2
        assert f"{path}" in refused(capsys, tmp_path / "out")


def test_files_of_other_columns_or_of_no_split_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(tmp_path / "raw" / "train-0.parquet", {"image": pictures(1), "text": ["t"]})
    table(tmp_path / "raw" / "train-1.parquet", {"image": pictures(1), "text": ["t"], "more": [1]})
    assert from_parquet(tmp_path / "raw", tmp_path / "out") == 2
    assert "its columns are not those of" in refused(capsys, tmp_path / "out")
    (tmp_path / "raw" / "train-1.parquet").unlink()
    table(tmp_path / "raw" / "rest.parquet", {"image": pictures(1), "text": ["t"]})
    assert from_parquet(tmp_path / "raw", tmp_path / "out") == 2
    assert "its name does not begin with a split's" in refused(capsys, tmp_path / "out")
    assert from_parquet(tmp_path / "raw" / "x*.parquet", tmp_path / "out") == 2
    assert "no Parquet files" in refused(capsys, tmp_path / "out")


@pytest.mark.parametrize("label", [3, -2])
def test_a_class_beyond_the_names_is_refused(label: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist([{**rows(1)[0], "animal": label}], CAPTIONS.arrow_schema), path)
    assert from_parquet(path, tmp_path / "out") == 2
    assert f"row 0: animal: {label} is no class" in refused(capsys, tmp_path / "out")


def test_minus_one_is_a_label_that_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    table = [{**row, "animal": label} for row, label in zip(rows(3), [0, -1, None])]
    pq.write_table(pa.Table.from_pylist(table, CAPTIONS.arrow_schema), path)
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0") == 0
    assert sorted(sample.labels for sample in stored(tmp_path / "out").values()) == [(), (), ("dog",)]


def test_a_damaged_saved_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Offsets that lead out of the file, which Arrow would follow."""
    raw = saved(tmp_path / "raw", train=3)
    (data,) = (raw / "train").glob("*.arrow")
    offsets = (0).to_bytes(4, "little") + len(jpeg(0)).to_bytes(4, "little")
    content = data.read_bytes()
    assert offsets in content
    data.write_bytes(content.replace(offsets, (0).to_bytes(4, "little") + (2**30).to_bytes(4, "little"), 1))
    assert from_hf(raw, tmp_path / "out") == 2
    assert "cannot be loaded as a dataset" in refused(capsys, tmp_path / "out")


def test_a_path_in_a_dataset_leads_nowhere_else(tmp_path: Path) -> None:
    """A published table may name any file of the reader's, and any address."""
    raw = saved(tmp_path / "raw", train=1)
    write(tmp_path / "mine.jpg", jpeg(0))
    on_disk = OnDisk(raw, None, RawTree(raw))
    hub = Published.__new__(Published)
    hub.where, hub.commit = "someone/set", "abc"
    for path in ("../mine.jpg", str(tmp_path / "mine.jpg"), "http://127.0.0.1:9/x.jpg", f"zip://x::{tmp_path}/a.zip"):
        with pytest.raises(XmrError, match="leads out of"):
            on_disk.find(path, "row 0")
    for path in (
        "../other/x.jpg",
        "http://127.0.0.1:9/x.jpg",
        "hf://datasets/someone/other@abc/x.jpg",
        "zip://x.jpg::http://127.0.0.1:9/a.zip",
        f"file://{tmp_path}/mine.jpg",
    ):
        with pytest.raises(XmrError, match="lies outside of someone/set"):
            hub.find(path, "row 0")


def test_a_hub_that_cannot_be_reached_and_a_name_that_is_none_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert from_hf("someone/set", tmp_path / "out") == 2
    assert "someone/set: cannot be loaded as a dataset" in refused(capsys, tmp_path / "out")
    assert from_hf("no/such/name", tmp_path / "out") == 2
    assert "no/such/name: cannot be loaded as a dataset" in refused(capsys, tmp_path / "out")


def test_after_an_error_nothing_is_left_and_after_ctrl_c_what_the_build_has_made(tmp_path: Path) -> None:
    for number, (error, left) in enumerate([(XmrError("no"), []), (KeyboardInterrupt(), [".building"])]):
        out = tmp_path / str(number)
        with pytest.raises(type(error)), picture_folder(out) as pictures:
            assert pictures.add(b"one") == pictures.add(b"one") != pictures.add(b"other")
            write(out / ".building" / "made" / "train-00000.tar", b"")
            raise error
        assert [path.name for path in out.glob("*")] == left
        assert out.exists() == bool(left)


def test_what_a_killed_command_left_goes_with_the_next(tmp_path: Path) -> None:
    write(tmp_path / "out" / ".pictures" / "ab" / "old", b"old")
    path = table(tmp_path / "t.parquet", {"image": pictures(2), "text": ["a", "b"]})
    assert from_parquet(path, tmp_path / "out", "--val", "0", "--test", "0") == 0
    assert not (tmp_path / "out" / ".pictures").exists()


def test_webdataset_is_read_by_datasets_as_by_this_project(
    tiny_shards: Path, tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    expected = stored(tiny_shards)
    files = {split: sorted(map(str, tiny_shards.glob(f"{split}-*.tar"))) for split in ("train", "val", "test")}
    found = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "cache"))
    keys = [("val" if name == "validation" else name, row["__key__"]) for name, each in found.items() for row in each]
    assert sorted(keys) == sorted(expected)
    for name, split in found.items():
        for row in split.cast_column("jpg", datasets.Image(decode=False)):
            sample = expected[name, row["__key__"]]
            assert row["jpg"]["bytes"] == sample.image
            assert (tuple(row["json"]["texts"]), tuple(row["json"]["labels"])) == (sample.texts, sample.labels)
    picture = found["train"][0]["jpg"]
    own = expected["train", found["train"][0]["__key__"]].image
    assert own is not None and picture.tobytes() == Image.open(io.BytesIO(own)).tobytes()
    assert os.environ.get("HF_DATASETS_TRUST_REMOTE_CODE") is None
