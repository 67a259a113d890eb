"""The names of classes on the map of the common space stand where the classes' items are drawn."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from xmr_e2e.evaluation.projection import Projection
from xmr_e2e.fonts import text_width
from xmr_e2e.reports.embedding_plot import HEIGHT, PIXELS, Coloring, class_plot, embedding_plot, modality_plot
from xmr_e2e.reports.plots import GREY, WIDTH

pytestmark = pytest.mark.slow

NAMES = ["a", "b", "c", "d"]
CORNERS = np.array([[-3.0, -1.0], [5.0, -1.0], [5.0, 2.0], [-3.0, 2.0]])


def corners(*, items: int | None = None, strays: bool = False, several: bool = False) -> Projection:
    """A dense group of each class near a corner of the map; strays of each class lie in the middle."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 30)
    points = CORNERS[classes] + 0.02 * rng.standard_normal((120, 2))
    if strays:
        points[::5] = np.array([1.0, 0.5]) + rng.uniform(-1, 1, (24, 2))
    halves = {"image": slice(0, None, 2), "text": slice(1, None, 2)}
    return Projection(
        {name: points[half].astype(np.float32) for name, half in halves.items()},
        {name: classes[half] for name, half in halves.items()},
        items or 120,
        several,
    )


def test_five_modalities_have_a_sign_a_colour_and_a_name_of_their_own() -> None:
    rng = np.random.default_rng(0)
    names = ("image", "text", "audio", "video", "shape3d")
    projection = Projection(
        {name: rng.standard_normal((8, 2)).astype(np.float32) for name in names},
        {name: np.arange(8) % 4 for name in names},
        40,
        False,
    )
    drawn = embedding_plot(projection, NAMES)
    assert [name for name, _, _ in drawn.modalities] == list(names)
    assert len({sign for _, sign, _ in drawn.modalities}) == len({color for *_, color in drawn.modalities}) == 5
    assert "● image, ▲ text, ■ audio, ◆ video, ✚ 3D shape." in drawn.note


@pytest.mark.parametrize("strays", [False, True])
def test_a_name_stands_where_most_of_its_class_lies(strays: bool) -> None:
    projection = corners(strays=strays)
    points = np.concatenate(list(projection.points.values()))
    low, high = points.min(0), points.max(0)
    colors = {number: "#123456" for number in range(4)}
    _, placed = class_plot(projection, Coloring(colors, 0), NAMES)
    assert [each.text for each in placed] == NAMES
    for number, name in enumerate(placed):
        # The axes leave 1 % of the picture at each side, and 3 % of the points' range.
        share = 0.01 + 0.98 * ((CORNERS[number] - low) / (high - low) + 0.03) / 1.06
        assert name.x == pytest.approx(share[0] * WIDTH * PIXELS, abs=6)
        assert name.y == pytest.approx((1 - share[1]) * HEIGHT * PIXELS, abs=6)


def test_names_stay_on_the_map_and_apart() -> None:
    names = [f"a rather long name {number}" for number in range(4)]
    together = corners()
    for points in together.points.values():
        points[:] = 0.01 * points + 5  # all in one place, but for one
    together.points["image"][0] = 0.0
    for projection in (corners(), together):
        _, placed = class_plot(projection, Coloring(dict.fromkeys(range(4), GREY), 0), names)
        for each in placed:
            half = text_width(each.text, 15) / 2
            assert half - 0.1 <= each.x <= WIDTH * PIXELS - half + 0.1 and 0 < each.y < HEIGHT * PIXELS
        heights = sorted((each.y for each in placed) if projection is together else [])
        assert all(upper - lower >= 15 for lower, upper in itertools.pairwise(heights))


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def count(picture: bytes, color: str) -> int:
    """Pixels that are nearer to this colour than to white."""
    wanted = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.abs(pixels(picture) - wanted).sum(2) < 120).sum())


def test_each_class_and_each_modality_has_its_colour() -> None:
    projection = corners()
    red, blue = "#ff0000", "#0000ff"
    picture, placed = class_plot(projection, Coloring({0: red, 1: blue}, 2), NAMES)
    assert [each.text for each in placed] == ["a", "b"]  # classes in grey have no name
    shape = pixels(picture).shape[:2]
    assert shape == (round(200 * HEIGHT), round(200 * WIDTH))
    rows, columns = np.nonzero(np.abs(pixels(picture) - [255, 0, 0]).sum(2) < 120)
    assert rows.min() > shape[0] / 2 and columns.max() < shape[1] / 2  # of the class below, at the left
    assert count(picture, blue) > 50
    page = embedding_plot(projection, NAMES)
    assert [name for name, _, _ in page.modalities] == ["image", "text"]
    colors = [color for *_, color in page.modalities]
    assert len(set(colors)) == 2 and all(count(modality_plot(projection), color) > 50 for color in colors)


def test_the_note_says_how_many_items_are_shown() -> None:
    assert "t-SNE of 120 items, all modalities in one map: ● image, ▲ text." in embedding_plot(corners(), NAMES).note
    few = embedding_plot(corners(items=5000, several=True), NAMES).note
    assert "120 of 5,000 items, drawn evenly over the classes" in few and few.endswith("the colour of the rarest.")
    assert "rarest" not in embedding_plot(corners(), NAMES).note
