"""The drawn raw set: complete, reproducible, varied, and marked as synthetic wherever it goes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from preprocessing.pascal_sentence.page import parse_page
from preprocessing.synthetic.drawing import compose, draw_picture
from preprocessing.synthetic.kinds import COLORS, KINDS, Kind
from preprocessing.synthetic.pen import smooth
from preprocessing.synthetic.raw_set import draw_raw_set
from preprocessing.synthetic.scenes import SCENES
from preprocessing.synthetic.sentences import WHERE, describe
from xmr_e2e.errors import XmrError

SIZE = (96, 72)
VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_command_draws_a_set_that_the_pascal_builder_takes_and_calls_synthetic(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for line in (
        ["preprocessing.synthetic", raw, "--per-class", 3, "--size", *SIZE],
        ["preprocessing.pascal_sentence", raw, out],
    ):
        done = subprocess.run([sys.executable, "-m", *map(str, line)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "synthetic" in done.stdout
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["classes"] == VOC_CLASSES
    assert {name: split["samples"] for name, split in manifest["splits"].items()} == {
        "train": 20,
        "val": 20,
        "test": 20,
    }
    assert "synthetic" in manifest["dataset"]
    assert not manifest["skipped"] and not manifest["notes"]


def test_page_is_marked_and_lists_every_picture_with_five_different_sentences(tmp_path: Path) -> None:
    assert draw_raw_set(tmp_path / "raw", per_class=2, size=SIZE, workers=1) == 40
    html = (tmp_path / "raw/index.html").read_text()
    page = parse_page(html)
    assert page.generator == "xmr_e2e synthetic" and "<title>Synthetic" in html
    assert {entry.source for entry in page.entries} == files(tmp_path / "raw").keys() - {"index.html"}
    assert all(len(set(entry.sentences)) == 5 for entry in page.entries)


def test_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    for name, seed, workers in (("one", 0, 1), ("two", 0, 2), ("other", 1, 1)):
        draw_raw_set(tmp_path / name, per_class=1, size=SIZE, seed=seed, workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    one, other = files(tmp_path / "one"), files(tmp_path / "other")
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_a_larger_set_holds_the_smaller_one(tmp_path: Path) -> None:
    for count in (1, 2):
        draw_raw_set(tmp_path / str(count), per_class=count, size=SIZE, workers=1)
    small, large = files(tmp_path / "1"), files(tmp_path / "2")
    assert all(large[name] == data for name, data in small.items() if name != "index.html")


def test_pictures_have_the_size_and_are_all_different() -> None:
    pictures = [draw_picture("dog", index, size=(120, 90), seed=0)[1] for index in range(6)]
    arrays = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures]
    assert all(array.shape == (90, 120, 3) for array in arrays)
    for i, first in enumerate(arrays):
        for second in arrays[i + 1 :]:
            assert np.abs(first.astype(int) - second.astype(int)).mean() > 5


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_class_can_be_drawn_in_all_its_places_and_colours(kind: Kind) -> None:
    assert kind.places.keys() <= SCENES.keys() and set(kind.colors) <= COLORS.keys()
    seen = {compose(kind, Random(seed)).place for seed in range(60)}
    assert seen == kind.places.keys()


def test_the_twenty_classes_are_those_of_pascal_voc() -> None:
    assert [kind.name for kind in KINDS] == VOC_CLASSES


def test_sentences_name_the_object_and_no_other_place_than_the_drawn_one() -> None:
    for kind in KINDS:
        for seed in range(20):
            picture = compose(kind, Random(seed))
            elsewhere = [phrase for place, phrases in WHERE.items() if place != picture.place for phrase in phrases]
            for sentence in describe(picture, Random(seed)):
                told = sentence.lower()
                assert any(word.lower() in told for word in (*kind.nouns, kind.vague))
                assert not any(f" {phrase}" in told for phrase in elsewhere)


def test_sentences_tell_the_colour_and_side_that_are_drawn() -> None:
    boat = next(kind for kind in KINDS if kind.name == "boat")
    for seed in range(60):
        picture = compose(boat, Random(seed))
        told = " ".join(describe(picture, Random(seed)))
        wrong = set(boat.colors) - {picture.color}
        assert not any(f"{color} {noun}" in told for color in wrong for noun in boat.nouns)
        assert not any(f"on the {side}" in told for side in {"left", "right"} - {picture.side})


def test_not_every_sentence_names_the_class() -> None:
    sentences = [s for seed in range(40) for s in describe(compose(KINDS[1], Random(seed)), Random(seed))]
    named = sum("bicycle" in sentence for sentence in sentences) / len(sentences)
    assert 0.05 < named < 0.5


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(XmrError, match="not empty"):
        draw_raw_set(tmp_path, per_class=1, size=SIZE, workers=1)
    assert files(tmp_path) == {"mine.txt": b"keep"}


@pytest.mark.parametrize(("per_class", "size"), [(0, SIZE), (1, (10, 10))])
def test_options_out_of_range_are_refused(tmp_path: Path, per_class: int, size: tuple[int, int]) -> None:
    with pytest.raises(XmrError, match="must be at least"):
        draw_raw_set(tmp_path / "raw", per_class=per_class, size=size, workers=1)
    assert not (tmp_path / "raw").exists()


def test_smooth_curves_pass_through_their_points() -> None:
    points = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    np.testing.assert_allclose(smooth(points, steps=5)[::5], points)
