"""Shards as Parquet files: datasets reads pictures, captions and classes, and the way back gives the same samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers.built import manifest
from tests.helpers.stored import stored
from xmr_e2e.cli import main
from xmr_e2e.shards.adopt import adopt_shards
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards

CLASSES = ["sun", "apple", "leaf", "sea"]
"""in no alphabet's order, which has to stay"""
FILES = [
    *(f"test-{number:05d}-of-00002.parquet" for number in range(2)),
    *(f"train-{number:05d}-of-00005.parquet" for number in range(5)),
    *(f"validation-{number:05d}-of-00002.parquet" for number in range(2)),
]


def build(out: Path, samples: tuple[RawSample, ...], **options: Any) -> Path:
    chosen = BuildOptions(shard_samples=8, workers=1)
    build_shards(out, dataset="tiny <b>", classes=CLASSES, samples=samples, options=chosen, **options)
    return out


def load(folder: Path, cache: Path) -> datasets.DatasetDict:
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def test_datasets_reads_pictures_captions_and_classes(tiny_samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    shards = build(tmp_path / "shards", tiny_samples)
    assert main(["shards", "to-parquet", str(shards), str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    expected = stored(shards)
    found = load(tmp_path / "out", tmp_path / "cache")
    assert {name: len(split) for name, split in found.items()} == {"train": 40, "validation": 12, "test": 12}
    assert found["train"].features["label"] == datasets.ClassLabel(names=CLASSES)
    assert next(iter(found["train"]))["image"].size == (64, 48)  # decoded
    for name, split in found.items():
        for row in split.cast_column("image", datasets.Image(decode=False)):
            sample = expected[{"validation": "val"}.get(name, name), row["key"]]
            assert row["image"]["bytes"] == sample.image
            assert tuple(row["captions"]) == sample.texts
            assert (CLASSES[row["label"]],) == sample.labels


def test_load_dataset_reads_the_files_by_name(tiny_shards: Path, tmp_path: Path) -> None:
    assert main(["shards", "to-parquet", str(tiny_shards), str(tmp_path / "out")]) == 0
    files = {"train": str(tmp_path / "out/train-*.parquet")}
    train = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(train.features["image"], datasets.Image) and len(train) == 40


def test_the_way_back_gives_the_same_shards(tiny_samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    """To the byte, so also where two samples hold the same picture, and where one has no label."""
    one, other, *rest = (sample for sample in tiny_samples if sample.split == "train")
    copies = (replace(other, source="copy", image=one.image, labels=one.labels), replace(one, labels=()), *rest)
    samples = (*copies, *(sample for sample in tiny_samples if sample.split != "train"))
    shards = build(tmp_path / "shards", samples)
    assert main(["shards", "to-parquet", str(shards), str(tmp_path / "out")]) == 0
    again = tmp_path / "again"
    line = ["shards", "from-parquet", str(tmp_path / "out"), str(again), "--shard-samples", "8", "--workers", "1"]
    assert main(line) == 0
    assert stored(again) == stored(shards)
    for tar in shards.glob("*.tar"):
        assert (again / tar.name).read_bytes() == tar.read_bytes()
    assert manifest(again)["dataset"] == "tiny <b>"
    assert manifest(again)["classes"] == CLASSES
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in shards.iterdir())


def test_several_labels_are_a_column_of_lists(tiny_samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    first, *rest = tiny_samples
    shards = build(tmp_path / "shards", (replace(first, labels=("sun", "sea")), *rest))
    assert main(["shards", "to-parquet", str(shards), str(tmp_path / "out")]) == 0
    train = load(tmp_path / "out", tmp_path / "cache")["train"]
    assert train.features["labels"] == datasets.List(datasets.ClassLabel(names=CLASSES))
    assert [0, 3] in train["labels"]
    assert main(["shards", "from-parquet", str(tmp_path / "out"), str(tmp_path / "again"), "--workers", "1"]) == 0
    assert stored(tmp_path / "again") == stored(shards)


def test_adopted_tars_keep_pictures_texts_and_labels(tiny_shards: Path, tmp_path: Path) -> None:
    """Their keys are another tool's, and are made anew on the way back."""
    folder = tmp_path / "adopted"
    folder.mkdir()
    tars = {split: sorted(tiny_shards.glob(f"{split}-*.tar")) for split in ("train", "val")}
    for tar in (*tars["train"], *tars["val"]):
        (folder / tar.name).write_bytes(tar.read_bytes().replace(b'"source"', b'"origin"'))
    adopt_shards({split: [folder / tar.name for tar in found] for split, found in tars.items()}, workers=1)
    assert main(["shards", "to-parquet", str(folder), str(tmp_path / "out")]) == 0
    assert main(["shards", "from-parquet", str(tmp_path / "out"), str(tmp_path / "again"), "--workers", "1"]) == 0

    def without_keys(shards: Path) -> list[Any]:
        held = stored(shards).items()
        return sorted((split, sample.image, sample.texts, sample.labels) for (split, _), sample in held)

    assert without_keys(tmp_path / "again") == without_keys(folder)


def test_a_column_is_written_in_groups_of_rows(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmr_e2e.shards.parquet.GROUP_ROWS", 3)
    assert main(["shards", "to-parquet", str(tiny_shards), str(tmp_path / "out")]) == 0
    about = pq.ParquetFile(tmp_path / "out" / FILES[2]).metadata
    assert [about.row_group(number).num_rows for number in range(about.num_row_groups)] == [3, 3, 2]


def test_what_is_neither_picture_nor_text_is_counted(
    tmp_path: Path, make_image: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sound = {"audio": np.arange(5, dtype=np.float32)}
    samples = (
        RawSample("a", "train", make_image(tmp_path / "a.png"), ("x",), features=sound),
        RawSample("b", "train", features=sound),
        RawSample("c", "train", None, ("only a text",), features=sound),
    )
    shards = build(tmp_path / "shards", samples, required=())
    assert main(["shards", "to-parquet", str(shards), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "not audio" in said and "1 samples have neither" in said
    rows = load(tmp_path / "out", tmp_path / "cache")["train"]
    assert sorted((row["image"] is None, row["captions"]) for row in rows) == [(False, ["x"]), (True, ["only a text"])]


def test_a_folder_that_holds_something_is_left_alone(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["shards", "to-parquet", str(tiny_shards), str(tmp_path / "out")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_left_of_what_cannot_be_written(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tiny_shards.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    about = json.loads((broken / "manifest.json").read_bytes())
    about["splits"]["test"]["shards"][-1]["samples"] -= 1
    (broken / "manifest.json").write_text(json.dumps(about))
    assert main(["shards", "to-parquet", str(broken), str(tmp_path / "out")]) == 2
    assert "the manifest says" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
