"""Tables that people have: Parquet files and datasets of the Hugging Face hub become shards, or a clear error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.helpers.arrow_tables import CAPTIONS, from_hf, from_parquet, jpeg, pictures, refused, rows, saved, table
from tests.helpers.built import image_bytes, manifest, samples, write
from tests.helpers.stored import stored

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
