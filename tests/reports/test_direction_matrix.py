"""The picture of all directions holds each score and how many times random it is, in the cell of its modalities."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.figures import CrossModalMetrics
from xmr_e2e.reports.direction_matrix import GAP, draw_matrix, matrix_png, matrix_svg

pytestmark = pytest.mark.slow

MODALITIES = ("image", "text", "audio", "video", "shape3d")


@pytest.fixture(scope="module")
def metrics() -> CrossModalMetrics:
    """Images and texts are near their classes, sounds are noise, and shapes are near other classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    noise = {"image": 0.4, "text": 0.6, "audio": 30.0, "video": 1.0, "shape3d": 0.3}
    rows = {name: np.eye(6)[labels] + own * rng.standard_normal((60, 6)) for name, own in noise.items()}
    rows["shape3d"] = np.roll(rows["shape3d"], 3, axis=1)
    return cross_modal_metrics(embedded_split(rows, labels))


def texts_of(figure: Figure) -> dict[tuple[float, float], str]:
    """Middle and top of a cell -> its words, from above."""
    found: dict[tuple[float, float], str] = {}
    for text in sorted(figure.axes[0].texts, key=lambda each: each.get_position()[1]):
        x, y = text.get_position()
        place = float(x), float(np.floor(y))
        found[place] = f"{found[place]} {text.get_text()}" if place in found else text.get_text()
    return found


def test_each_direction_and_each_pool_has_its_cell(metrics: CrossModalMetrics) -> None:
    found = texts_of(draw_matrix(metrics, "mAP@all"))
    assert len(found) == 25
    for row, query in enumerate(MODALITIES):
        for column, gallery in enumerate((*MODALITIES, "others")):
            if query == gallery:
                continue
            way = f"{query}_to_{gallery}"
            value, floor = (side.rows[way].scores["mAP@all"] for side in (metrics.model, metrics.random))
            middle = column + 0.5 + (GAP if gallery == "others" else 0)
            assert found[middle, row] == f"{value:.3f} {value / floor:.1f}×"


def test_the_sides_are_named(metrics: CrossModalMetrics) -> None:
    (axes,) = draw_matrix(metrics, "mAP@all").axes
    names = ["image", "text", "audio", "video", "3D shape"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text() for label in axes.get_xticklabels()] == [*names, "all\nothers"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("query", "gallery")


def test_the_more_times_random_the_darker_and_below_random_is_another_hue(metrics: CrossModalMetrics) -> None:
    figure = draw_matrix(metrics, "mAP@all")
    colors = {
        (round(patch.get_x()), round(patch.get_y())): patch.get_facecolor()  # type: ignore[attr-defined]
        for patch in figure.axes[0].patches
    }
    darkness = {place: 3 - sum(color[:3]) for place, color in colors.items()}
    assert darkness[1, 0] > darkness[3, 0] > darkness[2, 0]  # image to text, to video, to audio
    red, _, blue, _ = colors[4, 0]
    assert red > blue  # image to 3D shape: below random
    red, _, blue, _ = colors[1, 0]
    assert blue > red


def test_a_score_that_a_direction_lacks_is_a_dash_and_without_pools_there_is_no_column(
    metrics: CrossModalMetrics,
) -> None:
    scores = metrics.model.directions["image_to_audio"].scores
    row = replace(metrics.model.directions["image_to_audio"], scores={**scores} | {"mAP@all": 0.5})
    del row.scores["mAP@all"]
    model = replace(metrics.model, directions=metrics.model.directions | {"image_to_audio": row}, pools={})
    found = texts_of(draw_matrix(replace(metrics, model=model), "mAP@all"))
    assert len(found) == 20 and found[2.5, 0] == "–"


def test_it_is_the_same_picture_each_time_as_svg_and_as_png(metrics: CrossModalMetrics) -> None:
    assert matrix_svg(metrics, "mAP@all") == matrix_svg(metrics, "mAP@all")
    assert matrix_svg(metrics, "mAP@all") != matrix_svg(metrics, "R@1")
    image = Image.open(io.BytesIO(matrix_png(metrics, "mAP@all")))
    assert image.width == 1080 and image.format == "PNG"
