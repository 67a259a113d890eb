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
from preprocessing.synthetic.picture import KINDS, compose, draw_object, draw_picture
from preprocessing.synthetic.raw_set import synthetic
from preprocessing.synthetic.sentences import COLORS, describe
from preprocessing.synthetic.shapes import DRAWINGS, WORLD, parse, pick, shade, smooth, trace
from xmr_e2e.errors import XmrError

SIZE = (96, 72)
VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
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
    synthetic(tmp_path / "raw", per_class=2, size=SIZE, workers=1)
    html = (tmp_path / "raw/index.html").read_text()
    page = parse_page(html)
    assert page.generator == "xmr_e2e synthetic" and "<title>Synthetic" in html
    assert len(page.entries) == 40
    assert {entry.source for entry in page.entries} == files(tmp_path / "raw").keys() - {"index.html"}
    assert all(len(set(entry.sentences)) == 5 for entry in page.entries)


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    for name, seed, workers in (("one", 0, 1), ("two", 0, 2), ("other", 1, 1)):
        synthetic(tmp_path / name, per_class=1, size=SIZE, seed=seed, workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    one, other = files(tmp_path / "one"), files(tmp_path / "other")
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_a_larger_set_holds_the_smaller_one(tmp_path: Path) -> None:
    for count in (1, 2):
        synthetic(tmp_path / str(count), per_class=count, size=SIZE, workers=1)
    small, large = files(tmp_path / "1"), files(tmp_path / "2")
    assert all(large[name] == data for name, data in small.items() if name != "index.html")


def test_pictures_have_the_size_and_are_all_different() -> None:
    pictures = [draw_picture("dog", index, size=(120, 90), seed=0)[1] for index in range(6)]
    arrays = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures]
    assert all(array.shape == (90, 120, 3) for array in arrays)
    for i, first in enumerate(arrays):
        for second in arrays[i + 1 :]:
            assert np.abs(first.astype(int) - second.astype(int)).mean() > 5


@pytest.mark.parametrize("name", KINDS)
def test_each_class_can_be_drawn_in_all_its_places_and_colors(name: str) -> None:
    kind = KINDS[name]
    drawn = [compose(name, Random(seed)) for seed in range(90)]
    assert {picture.place for picture in drawn} == {place for places in kind.doing for place in places.split()}
    assert {picture.color for picture in drawn} == set(kind.colors.split()) <= COLORS.keys()
    assert {picture.side for picture in drawn} == {"left", "middle", "right"}
    assert {picture.things for picture in drawn} == {0, 1, 2, 3}


def test_the_twenty_classes_are_those_of_pascal_voc() -> None:
    assert list(KINDS) == VOC_CLASSES


@pytest.mark.parametrize("name", KINDS)
def test_the_object_is_inside_the_picture_on_the_told_side_and_in_the_told_color(name: str) -> None:
    for seed in range(15):
        picture = compose(name, Random(seed))
        outlines = draw_object(picture, 133, 60, Random(seed))
        shadow = 0 if picture.place in ("sky", "water") else 2
        points = np.concatenate([outline for _, outline in outlines[shadow:]])
        assert 0 <= points.real.min() < points.real.max() <= 133
        assert 0 <= points.imag.min() < points.imag.max() <= 100
        free = 133 - np.ptp(points.real)
        low, high = {"left": (0, 0.2), "middle": (0.4, 0.6), "right": (0.8, 1)}[picture.side]
        assert low * free - 1e-6 <= points.real.min() <= high * free + 1e-6
        assert np.ptp(points.imag) <= 100 * picture.height + 1e-6
        told = np.array(pick([picture.color], Random(0)))
        assert min(np.abs(np.array(color[:3]) - told).max() for color, _ in outlines) <= 24  # each varies by 12


@pytest.mark.parametrize("place", WORLD["places"])
def test_each_place_has_words_things_that_can_be_drawn_and_a_scene_that_fills_it(place: str) -> None:
    where, things, scene = WORLD["places"][place]
    assert len(where.split(", ")) >= 4
    assert all(list(trace(DRAWINGS[thing], (9, 9, 9), Random(0))) for thing in things.split(", "))
    horizontal = [o for _, o in trace(scene, (0, 0, 0), Random(0)) if np.ptp(o.real) >= 133]
    covered = np.concatenate(horizontal).imag
    assert covered.min() == 0 and covered.max() == 100


def test_words_of_places_and_sides_are_told_apart() -> None:
    phrases = [phrase for where, _, _ in WORLD["places"].values() for phrase in where.split(", ")]
    assert len(phrases) == len(set(phrases))


def test_sentences_name_the_object_and_no_other_place_than_the_drawn_one() -> None:
    for name, kind in KINDS.items():
        for seed in range(20):
            picture = compose(name, Random(seed))
            elsewhere = [
                phrase
                for place, (where, _, _) in WORLD["places"].items()
                if place != picture.place
                for phrase in where.split(", ")
            ]
            for sentence in describe(picture, Random(seed)):
                told = sentence.lower()
                assert any(word.lower() in told for word in (*kind.nouns.split(", "), kind.vague))
                assert not any(f" {phrase}" in told for phrase in elsewhere)


def test_sentences_tell_the_color_and_side_that_are_drawn() -> None:
    nouns, colors, named = KINDS["boat"].nouns.split(", "), set(KINDS["boat"].colors.split()), 0
    for seed in range(60):
        picture = compose("boat", Random(seed))
        told = " ".join(describe(picture, Random(seed)))
        wrong = colors - {picture.color}
        named += any(word in told for word in COLORS[picture.color])
        assert not any(f"{color} {noun}" in told for color in wrong for noun in nouns)
        assert not any(f"on the {side}" in told for side in {"left", "right"} - {picture.side})
    assert named > 50


def test_sentences_tell_the_things_that_lie_around_and_their_number() -> None:
    for seed in range(60):
        picture = compose("dog", Random(seed))
        told = " ".join(describe(picture, Random(seed))).lower()
        amount = {0: "", 1: f"a {picture.thing}", 2: f"two {picture.thing}s", 3: f"three {picture.thing}s"}
        assert amount[picture.things] in told
        if not picture.things:
            assert not any(thing in told for thing in ("ball", "bucket", "kite", "cone"))


def test_not_every_sentence_names_the_class() -> None:
    sentences = [s for seed in range(40) for s in describe(compose("bicycle", Random(seed)), Random(seed))]
    named = sum("bicycle" in sentence for sentence in sentences) / len(sentences)
    assert 0.05 < named < 0.5


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(XmrError, match="not empty"):
        synthetic(tmp_path, per_class=1, size=SIZE, workers=1)
    assert files(tmp_path) == {"mine.txt": b"keep"}


@pytest.mark.parametrize(("per_class", "size"), [(0, SIZE), (1, (10, 10))])
def test_options_out_of_range_are_refused(tmp_path: Path, per_class: int, size: tuple[int, int]) -> None:
    with pytest.raises(XmrError, match="must be at least"):
        synthetic(tmp_path / "raw", per_class=per_class, size=size, workers=1)
    assert not (tmp_path / "raw").exists()


def bounds(drawing: str) -> list[tuple[float, ...]]:
    """Left, top, right and bottom of each outline."""
    outlines = [outline for _, outline in trace(drawing, (9, 9, 9), Random(0))]
    return [tuple(f(axis) for f in (np.min, np.max) for axis in (o.real, o.imag)) for o in outlines]


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ("poly own 1,2 5,2 5,8", [(1, 2, 5, 8)]),
        ("box own 1,2 5,8", [(1, 2, 5, 8)]),
        ("box own 10,20 50,80 10", [(10, 20, 50, 80)]),
        ("oval own 10,20 5", [(5, 15, 15, 25)]),
        ("oval own 10,20 5,2", [(5, 18, 15, 22)]),
        ("line own 2 0,0 10,0", [(0, -1, 10, 1), (-1, -1, 1, 1), (9, -1, 11, 1)]),
        ("3x box own 0+10,0 4+10,1", [(0, 0, 4, 1), (10, 0, 14, 1), (20, 0, 24, 1)]),
        ("box own 0,0 1,1; box own 2,0 3,1\nbox own 4,0 5,1", [(0, 0, 1, 1), (2, 0, 3, 1), (4, 0, 5, 1)]),
    ],
)
def test_shapes_lie_where_the_notation_says(drawing: str, expected: list[tuple[float, ...]]) -> None:
    # Circles are polygons, which do not quite reach as far as the circle.
    np.testing.assert_allclose(bounds(drawing), expected, atol=0.15)


def test_a_ring_is_hollow_and_a_part_is_scaled_and_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = np.concatenate([abs(outline) for _, outline in trace("ring own 2 0,0 10", (9, 9, 9), Random(0))])
    assert distances.min() > 8.5 and distances.max() < 11.5
    monkeypatch.setitem(DRAWINGS, "stick", "box own 0,-10 100,10")
    np.testing.assert_allclose(
        bounds("stick own 30,40 50; stick own 30,40 50 90"), [(30, 35, 80, 45), (25, 40, 35, 90)]
    )


def test_choices_of_the_notation() -> None:
    lefts = [left for left, *_ in bounds("200x box own 3~7,0 9,1")]
    assert min(lefts) >= 3 and max(lefts) <= 7 and np.ptp(lefts) > 3.5
    counts = [len(list(trace("1~3x oval own 0,0 1", (9, 9, 9), Random(seed)))) for seed in range(40)]
    assert set(counts) == {1, 2, 3}
    both = {tuple(c for c, _ in trace("2x box red|blue 0,0 1,1", (0,), Random(seed))) for seed in range(40)}
    assert all(first == second for first, second in both)
    assert {"red" if first[0] > first[2] else "blue" for first, _ in both} == {"red", "blue"}
    assert [c for c, _ in trace("box own 0,0 1,1; box own*.5 0,0 1,1", (100, 50, 200), Random(0))] == [
        (100, 50, 200),
        (50, 25, 100),
    ]
    assert shade((100, 0, 255, 9), 1.5) == (178, 128, 255, 9)


@pytest.mark.parametrize("drawing", ["oval", "oval red", "red 1,2 3", "two x oval red 1,2 3"])
def test_what_is_no_shape_is_refused(drawing: str) -> None:
    with pytest.raises(ValueError, match="not a shape"):
        parse(drawing)


def test_smooth_curves_pass_through_their_points() -> None:
    points = np.array([0, 1, 1 + 1j, 1j])
    np.testing.assert_allclose(smooth(points, steps=5)[::5], points)
