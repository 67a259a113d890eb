"""Splits and captions of Flickr30k, beyond what test_builders.py shows of both Flickr datasets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from preprocessing.flickr.command import flickr
from preprocessing.flickr.files import read_published
from tests.helpers.builders import ALONE, command, splits
from tests.helpers.built import UNLABELLED, manifest, samples, write
from tests.helpers.raw_flickr30k import flickr30k_raw, karpathy, write_tokens
from xmr_e2e.errors import XmrError


@pytest.fixture
def flickr30k(tmp_path: Path) -> Path:
    return flickr30k_raw(tmp_path / "raw")


@pytest.mark.slow
def test_karpathys_captions_stand_in_for_a_missing_caption_file(flickr30k: Path, tmp_path: Path) -> None:
    (flickr30k / "results_20130124.token").unlink()
    done = command("flickr", flickr30k, tmp_path / "out", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert splits(tmp_path / "out") == {"train": 3, "val": 1, "test": 1}
    assert samples(tmp_path / "out")["3.jpg"]["texts"] == [f"Sentence {k} of 3.jpg" for k in range(3)]
    assert manifest(tmp_path / "out")["notes"] == [
        UNLABELLED,
        "captions are those of dataset_flickr30k.json: there is no results_20130124.token or results.csv",
    ]


def test_the_caption_file_comes_before_karpathys_captions(flickr30k: Path, tmp_path: Path) -> None:
    flickr(flickr30k, tmp_path / "out", build=ALONE)
    assert samples(tmp_path / "out")["3.jpg"]["texts"] == ["Token caption 0 .", "Token caption 1 ."]
    assert manifest(tmp_path / "out")["notes"] == [UNLABELLED, "1 images are in no split, not used"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_caption_files_that_an_editor_has_saved_are_read_as_ever(
    flickr30k: Path, tmp_path: Path, encoding: str
) -> None:
    before = read_published(flickr30k)
    for path in (flickr30k / "results_20130124.token", flickr30k / "dataset_flickr30k.json"):
        write(path, path.read_text().replace("\n", "\r\n").encode(encoding))
    assert read_published(flickr30k) == before


def test_karpathys_file_without_sentences_is_no_caption_file(flickr30k: Path, tmp_path: Path) -> None:
    (flickr30k / "results_20130124.token").unlink()
    write(flickr30k / "dataset_flickr30k.json", json.dumps({"images": [{"filename": "0.jpg", "split": "train"}]}))
    with pytest.raises(XmrError, match=r"holds no sentences, and there is no results_20130124\.token.*expected as"):
        flickr(flickr30k, tmp_path / "out", build=ALONE)


@pytest.mark.slow
def test_rest_is_train_takes_what_is_in_no_split_to_train(flickr30k: Path, tmp_path: Path) -> None:
    done = command("flickr", flickr30k, tmp_path / "out", "--splits", "rest-is-train", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert splits(tmp_path / "out") == {"train": 4, "val": 1, "test": 1}
    assert samples(tmp_path / "out")["5.jpg"]["split"] == "train"
    unlabeled, note = manifest(tmp_path / "out")["notes"]
    assert unlabeled == UNLABELLED
    assert note.startswith("splits: 1 images") and "in train" in note


@pytest.mark.slow
def test_rest_is_train_gives_the_papers_counts_from_the_published_ones(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "flickr30k-images").mkdir(parents=True)
    counts = {"train": 29_000, "val": 1_014, "test": 1_000}
    published = [split for split, count in counts.items() for _ in range(count)]
    # Names in reverse: which of val stay there is a matter of the file's order, not of names.
    split_of = {f"{100_000 - number}.jpg": split for number, split in enumerate(published)}
    write(raw / "dataset_flickr30k.json", karpathy(split_of))
    write_tokens(raw, [*split_of, *(f"extra{number}.jpg" for number in range(769))])
    found = read_published(raw, "rest-is-train").splits
    assert Counter(found.values()) == {"train": 29_783, "val": 1_000, "test": 1_000}
    val = [name for name, split in split_of.items() if split == "val"]
    assert [found[name] for name in val] == ["val"] * 1_000 + ["train"] * 14
    assert all(found[name] == "test" for name, split in split_of.items() if split == "test")


@pytest.mark.parametrize("missing", ["results_20130124.token", "dataset_flickr30k.json"])
def test_rest_is_train_needs_both_files(flickr30k: Path, tmp_path: Path, missing: str) -> None:
    (flickr30k / missing).unlink()
    with pytest.raises(XmrError, match=rf"{missing} does not exist; --splits rest-is-train needs it.*expected as"):
        flickr(flickr30k, tmp_path / "out", splits="rest-is-train", build=ALONE)


def test_entities_splits_are_those_of_its_lists(flickr30k: Path, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"train\.txt does not exist.*github\.com/BryanPlummer/flickr30k_entities"):
        flickr(flickr30k, tmp_path / "out", splits="entities", build=ALONE)
    for split, lines in {"train": "5\n0\n4\n", "val": "1\n2", "test": "3.jpg\n"}.items():
        write(flickr30k / f"flickr30k_entities/{split}.txt", lines)
    flickr(flickr30k, tmp_path / "out", splits="entities", build=ALONE)
    assert {name: sample["split"] for name, sample in samples(tmp_path / "out").items()} == {
        "0.jpg": "train", "1.jpg": "val", "2.jpg": "val", "3.jpg": "test", "4.jpg": "train", "5.jpg": "train",
    }  # fmt: skip
    assert "Flickr30k Entities" in manifest(tmp_path / "out")["notes"][1]
    write(flickr30k / "flickr30k_entities/test.txt", "0\n")
    with pytest.raises(XmrError, match=r"test\.txt: 0\.jpg is in the split 'test' and in 'train'"):
        flickr(flickr30k, tmp_path / "other", splits="entities", build=ALONE)


def test_flickr8k_has_its_publishers_splits_only(tmp_path: Path) -> None:
    write(tmp_path / "raw/Flickr8k.token.txt", "0.jpg#0\tA dog .\n")
    with pytest.raises(XmrError, match=r"holds Flickr8k.*--splits entities is for Flickr30k"):
        flickr(tmp_path / "raw", tmp_path / "out", splits="entities", build=ALONE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"filename": "0.jpg"', r"dataset_flickr30k\.json: not JSON, or cut off"),
        ('{"images": []}', r"dataset_flickr30k\.json: the list 'images' is empty"),
        ('{"pictures": []}', r"dataset_flickr30k\.json: there is no list 'images'"),
        ('{"images": [{"filename": "0.jpg"}]}', r"dataset_flickr30k\.json, images\[0\]: 'split' must be a string"),
        (karpathy({"0.jpg": "restval"}), r"dataset_flickr30k\.json, images\[0\]: split 'restval' is none of train"),
        (
            json.dumps({"images": [{"filename": "0.jpg", "split": split} for split in ("train", "test")]}),
            r"dataset_flickr30k\.json, images\[1\]: 0\.jpg is also images\[0\]",
        ),
    ],
)
def test_a_malformed_file_of_splits_is_an_error_that_names_file_and_entry(
    flickr30k: Path, tmp_path: Path, content: str, message: str
) -> None:
    write(flickr30k / "dataset_flickr30k.json", content)
    with pytest.raises(XmrError, match=message):
        flickr(flickr30k, tmp_path / "out", build=ALONE)
