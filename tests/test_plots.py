"""The figures are PNGs of the stated size and change with what they show."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from embedded import embedded_split
from PIL import Image

from xmr_e2e.evaluation.directions import CrossModalFigures, cross_modal_figures
from xmr_e2e.evaluation.plots import precision_recall_plot, precision_scope_plot, training_plots, validation_series


def figures(noise: float, modalities: tuple[str, ...] = ("image", "text")) -> CrossModalFigures:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    embeddings = {name: np.eye(6)[labels] + noise * rng.standard_normal((60, 6)) for name in modalities}
    return cross_modal_figures(embedded_split(embeddings, labels))


def records(*, nested: bool, terms: int = 3, steps: int = 30) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = {f"term {index}": index + 1 / step for index in range(terms)}
        names = {"loss": loss} if nested else {f"loss/{name}": value for name, value in loss.items()}
        lines.append({"step": step, "epoch": step // 10, "lr": 0.1, **names})
    return lines


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("plot", [precision_recall_plot, precision_scope_plot])
def test_curves_show_the_figures_and_are_drawn_at_twice_their_size(plot: Callable[[CrossModalFigures], bytes]) -> None:
    assert pixels(plot(figures(0.3))).shape[1] == 1080
    assert plot(figures(0.3)) == plot(figures(0.3))
    assert plot(figures(0.3)) != plot(figures(0.6))


def test_the_two_kinds_of_curves_differ() -> None:
    assert precision_recall_plot(figures(0.3)) != precision_scope_plot(figures(0.3))


def test_more_than_two_modalities_get_a_panel_each() -> None:
    shapes = [
        pixels(precision_recall_plot(figures(0.3, modalities))).shape
        for modalities in (
            ("image", "text"),
            ("image", "text", "audio"),
            ("image", "text", "audio", "video", "shape3d"),
        )
    ]
    assert {shape[1] for shape in shapes} == {1080}
    assert shapes[0][0] < shapes[1][0] < shapes[2][0]


def test_there_is_a_panel_for_each_loss_term_and_one_for_the_scores() -> None:
    assert list(training_plots(records(nested=True))) == ["loss: term 0", "loss: term 1", "loss: term 2"]
    with_scores = [*records(nested=True, terms=1), {"step": 30, "val": {"average mAP@all": 0.4}}]
    assert list(training_plots(with_scores)) == ["loss: term 0", "validation"]
    assert training_plots([{"step": 1, "lr": 0.1, "val": {"average mAP@all": 0.4}}]) == {}


def test_nested_and_flat_records_give_the_same_figures() -> None:
    assert training_plots(records(nested=True)) == training_plots(records(nested=False))


def test_a_record_without_step_stands_at_the_step_before_it() -> None:
    lines = records(nested=True)
    with_step = [*lines, {"step": 30, "val": {"mAP@all": 0.4}}]
    without = [*lines, {"epoch": 3, "val": {"mAP@all": 0.4}}]
    assert training_plots(with_step) == training_plots(without)
    assert validation_series(without, "mAP@all") == [(30, 0.4)]


def test_values_that_are_not_finite_are_left_out() -> None:
    lines = records(nested=True)
    assert training_plots([*lines, {"step": 31, "loss": {"term 0": float("nan")}}]) == training_plots(lines)
