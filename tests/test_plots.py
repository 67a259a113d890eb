"""The figures are PNGs of the stated size and change with what they show."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xmr_e2e.evaluation.directions import CrossModalFigures, cross_modal_figures
from xmr_e2e.evaluation.plots import precision_recall_plot, training_plot


def figures(noise: float, modalities: tuple[str, ...] = ("image", "text")) -> CrossModalFigures:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    embeddings = {name: np.eye(6)[labels] + noise * rng.standard_normal((60, 6)) for name in modalities}
    return cross_modal_figures(embeddings, labels, range(60))


def records(*, nested: bool, terms: int = 3, steps: int = 30) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = {f"term {index}": index + 1 / step for index in range(terms)}
        names = {"loss": loss} if nested else {f"loss/{name}": value for name, value in loss.items()}
        lines.append({"step": step, "epoch": step // 10, "lr": 0.1, **names})
    return lines


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_figures_are_twice_700_pixels_wide() -> None:
    for png in (precision_recall_plot(figures(0.3)), training_plot(records(nested=True))):
        assert pixels(png).shape[1] == 1400


def test_precision_recall_plot_shows_the_figures() -> None:
    assert precision_recall_plot(figures(0.3)) == precision_recall_plot(figures(0.3))
    assert precision_recall_plot(figures(0.3)) != precision_recall_plot(figures(0.6))


def test_more_than_two_modalities_get_a_panel_each() -> None:
    shapes = [
        pixels(precision_recall_plot(figures(0.3, modalities))).shape
        for modalities in (
            ("image", "text"),
            ("image", "text", "audio"),
            ("image", "text", "audio", "video", "shape3d"),
        )
    ]
    assert {shape[1] for shape in shapes} == {1400}
    assert shapes[0][0] < shapes[1][0] < shapes[2][0]


def test_nested_and_flat_records_give_the_same_figure() -> None:
    assert training_plot(records(nested=True)) == training_plot(records(nested=False))


def test_a_record_without_step_stands_at_the_step_before_it() -> None:
    lines = records(nested=True)
    with_step = [*lines, {"step": 30, "val": {"mAP@all": 0.4}}]
    without = [*lines, {"epoch": 3, "val": {"mAP@all": 0.4}}]
    assert training_plot(with_step) == training_plot(without) != training_plot(lines)


def test_each_further_pair_of_terms_adds_a_row_of_panels() -> None:
    heights = [pixels(training_plot(records(nested=True, terms=terms))).shape[0] for terms in (1, 2, 3, 4, 5)]
    assert heights[0] == heights[1] < heights[2] == heights[3] < heights[4]


def test_values_that_are_not_finite_are_left_out() -> None:
    lines = records(nested=True)
    assert training_plot([*lines, {"step": 31, "loss": {"term 0": float("nan")}}]) == training_plot(lines)


def test_records_without_a_loss_are_refused() -> None:
    with pytest.raises(ValueError, match="loss term"):
        training_plot([{"step": 1, "lr": 0.1}])
