"""MIRFLICKR's layout in miniature becomes pairs in the form of DCMH, and what does not fit in it an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from preprocessing.common.command import run
from preprocessing.mirflickr import mirflickr
from tests.helpers.built import manifest, samples, write
from tests.helpers.raw_mirflickr import (
    COUNT,
    LABELS,
    UNLABELLED,
    UNTAGGED,
    annotated,
    labels_of,
    mirflickr_raw,
)
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions

ALONE = BuildOptions(workers=1)
LENIENT = BuildOptions(workers=1, max_skipped=0.3)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return mirflickr_raw(tmp_path / "raw")


def names(numbers: Iterable[int]) -> set[str]:
    return {f"im{number}.jpg" for number in numbers}


def counts(out: Path) -> dict[str, int]:
    return {
        split: sum(shard["samples"] for shard in content["shards"])
        for split, content in manifest(out)["splits"].items()
    }


@pytest.mark.slow
def test_command_keeps_the_pairs_with_a_common_tag_and_a_label(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = [sys.executable, "-m", "preprocessing.mirflickr", str(raw), str(out), "--workers", "1"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used = set(range(1, COUNT + 1)) - UNTAGGED - UNLABELLED
    found = samples(out)
    assert found.keys() == names(used)
    for number in used:
        sample = found[f"im{number}.jpg"]
        assert sample["texts"] == ["sunset nikon" if number % 2 else "water"]
        assert set(sample["labels"]) == labels_of(number)
    document = manifest(out)
    assert (document["dataset"], document["classes"], document["multi_label"]) == ("mirflickr25k", LABELS, True)
    notes = "\n".join(document["notes"])
    assert "20,015 pairs with a common tag and a label; found here: 57" in notes
    assert "2 images have no common tag: not used" in notes
    assert "1 images have a common tag, but none of the 24 labels: not used" in notes
    assert document["skipped"] == []


@pytest.mark.slow
def test_all_tags_give_the_same_images_other_texts(raw: Path, tmp_path: Path) -> None:
    mirflickr(raw, tmp_path / "common", build=ALONE)
    mirflickr(raw, tmp_path / "all", tags="all", build=ALONE)
    common, every = samples(tmp_path / "common"), samples(tmp_path / "all")
    assert every["im7.jpg"]["texts"] == ["myholiday sunset nikon"] and every["im8.jpg"]["texts"] == ["water"]
    assert {name: item["split"] for name, item in common.items()} == {n: item["split"] for n, item in every.items()}


@pytest.mark.slow
def test_val_and_test_are_drawn_with_a_seed_and_are_at_most_a_fifth(raw: Path, tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        mirflickr(raw, tmp_path / out, seed=seed, build=ALONE)
    assert counts(tmp_path / "a") == {"train": 37, "val": 9, "test": 11}  # 57 // 5, then 46 // 5
    first, again, other = ({n: item["split"] for n, item in samples(tmp_path / out).items()} for out in "abc")
    assert first == again != other


def test_val_0_gives_the_queries_and_the_rest(raw: Path, tmp_path: Path) -> None:
    mirflickr(raw, tmp_path / "out", val=0, build=ALONE)
    assert counts(tmp_path / "out") == {"train": 46, "test": 11}
    mirflickr(raw, tmp_path / "some", val=20, build=ALONE)
    assert counts(tmp_path / "some") == {"train": 26, "val": 20, "test": 11}
    with pytest.raises(XmrError, match="--val 46: it must be at least 0 and less than the 46 samples of train"):
        mirflickr(raw, tmp_path / "none", val=46, build=ALONE)


def test_images_without_their_photograph_or_tags_file_are_skipped(raw: Path, tmp_path: Path) -> None:
    (raw / "mirflickr/im5.jpg").unlink()
    write(raw / "mirflickr/im6.jpg", b"")
    (raw / "mirflickr/meta/tags/tags7.txt").unlink()
    with open(annotated(raw) / "sea.txt", "a") as stream:
        stream.write("25001\n")
    with pytest.raises(XmrError, match="4 of 58 samples cannot be used"):
        mirflickr(raw, tmp_path / "strict", build=ALONE)
    mirflickr(raw, tmp_path / "out", build=LENIENT)
    reasons = {item["source"]: item["reason"] for item in manifest(tmp_path / "out")["skipped"]}
    assert reasons.keys() == names([5, 6, 7, 25001])
    assert "tags7.txt does not exist" in reasons["im7.jpg"]
    assert not samples(tmp_path / "out").keys() & reasons.keys()


@pytest.mark.slow
def test_a_tag_that_is_not_utf8_is_read_as_cp1252(raw: Path, tmp_path: Path) -> None:
    write(raw / "mirflickr/meta/tags/tags2.txt", b"caf\xe9\nwater\nna\xc3\xafve\n")
    mirflickr(raw, tmp_path / "out", tags="all", build=ALONE)
    assert samples(tmp_path / "out")["im2.jpg"]["texts"] == ["café water naïve"]


def test_a_repeated_line_and_an_unknown_label_are_noted(raw: Path, tmp_path: Path) -> None:
    path = annotated(raw) / "sky.txt"
    write(path, path.read_bytes() + b"3\n")
    write(annotated(raw) / "unicorn.txt", "1\n")
    mirflickr(raw, tmp_path / "out", build=ALONE)
    assert samples(tmp_path / "out")["im3.jpg"]["labels"].count("sky") == 1
    notes = manifest(tmp_path / "out")["notes"]
    line = sum("sky" in labels_of(number) for number in range(1, COUNT + 1)) + 1
    assert f"sky.txt, line {line}: image 3 is there twice" in notes
    assert "mirflickr25k_annotations_v080: not used: unicorn.txt" in notes


@pytest.mark.parametrize("content", ["im3.jpg", "-3", "3.0", "3 4", "³"])
def test_a_line_that_is_no_number_of_an_image_is_an_error(raw: Path, tmp_path: Path, content: str) -> None:
    write(annotated(raw) / "river.txt", f"16\n{content}\n")
    with pytest.raises(XmrError, match=r"river\.txt, line 2: .* is not the number of an image"):
        mirflickr(raw, tmp_path / "out", build=ALONE)


@pytest.mark.parametrize(
    "missing",
    [
        "mirflickr/doc/common_tags.txt",
        "mirflickr/meta/tags",
        "mirflickr25k_annotations_v080",
        "mirflickr25k_annotations_v080/plant_life.txt",
    ],
)
def test_a_missing_file_is_named_with_where_to_get_it(raw: Path, tmp_path: Path, missing: str) -> None:
    (raw / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(XmrError, match=rf"{missing} does not exist(.*\n)*.*press\.liacs\.nl/mirflickr"):
        mirflickr(raw, tmp_path / "out", build=ALONE)


def test_no_image_and_no_tag_in_common_are_errors(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"nowhere does not exist.*expected as"):
        mirflickr(tmp_path / "nowhere", tmp_path / "out", build=ALONE)
    write(raw / "mirflickr/doc/common_tags.txt", "")
    with pytest.raises(XmrError, match="no samples were found"):
        mirflickr(raw, tmp_path / "out", build=ALONE)
    for path in raw.glob("mirflickr/im*.jpg"):
        path.unlink()
    with pytest.raises(XmrError, match=r"mirflickr holds no image im<id>\.jpg"):
        mirflickr(raw, tmp_path / "out", build=ALONE)


def test_help_shows_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["builder", "--help"])
    with pytest.raises(SystemExit) as end:
        run(mirflickr)
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Example: python -m preprocessing.mirflickr " in shown and "24 (potential) labels" in shown
