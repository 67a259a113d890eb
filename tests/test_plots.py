"""The figures are SVGs of the stated size and change with what they show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from embedded import embedded_split

from xmr_e2e.evaluation.directions import CrossModalMetrics, cross_modal_metrics
from xmr_e2e.reports import plots
from xmr_e2e.reports.plots import precision_recall_plot, precision_scope_plot, training_plots, validation_series


def metrics(noise: float, modalities: tuple[str, ...] = ("image", "text")) -> CrossModalMetrics:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    embeddings = {name: np.eye(6)[labels] + noise * rng.standard_normal((60, 6)) for name in modalities}
    return cross_modal_metrics(embedded_split(embeddings, labels))


def records(*, nested: bool, terms: int = 3, steps: int = 30) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = {f"term {index}": index + 1 / step for index in range(terms)}
        names = {"loss": loss} if nested else {f"loss/{name}": value for name, value in loss.items()}
        lines.append({"step": step, "epoch": step // 10, "lr": 0.1, **names})
    return lines


def size(svg: bytes) -> tuple[float, float]:
    """Width and height in pixels of a page."""
    root = ElementTree.fromstring(svg)
    points = (re.fullmatch(r"([\d.]+)pt", root.attrib[name]) for name in ("width", "height"))
    width, height = (float(found[1]) / 0.72 for found in points if found)
    return width, height


@pytest.mark.parametrize("plot", [precision_recall_plot, precision_scope_plot])
def test_curves_show_the_figures_at_their_size(plot: Callable[[CrossModalMetrics], bytes]) -> None:
    assert size(plot(metrics(0.3)))[0] == pytest.approx(540)
    assert plot(metrics(0.3)) == plot(metrics(0.3))
    assert plot(metrics(0.3)) != plot(metrics(0.6))


def test_the_two_kinds_of_curves_differ() -> None:
    assert precision_recall_plot(metrics(0.3)) != precision_scope_plot(metrics(0.3))


def test_more_than_two_modalities_get_a_panel_each() -> None:
    sizes = [
        size(precision_recall_plot(metrics(0.3, modalities)))
        for modalities in (
            ("image", "text"),
            ("image", "text", "audio"),
            ("image", "text", "audio", "video", "shape3d"),
        )
    ]
    assert {round(width) for width, _ in sizes} == {540}
    assert sizes[0][1] < sizes[1][1] < sizes[2][1]


def test_there_is_a_panel_for_each_loss_term_and_one_for_the_scores() -> None:
    assert list(training_plots(records(nested=True))) == [*(f"loss: term {i}" for i in range(3)), "learning rate"]
    with_scores = [*records(nested=True, terms=1), {"step": 30, "val": {"average mAP@all": 0.4}}]
    assert list(training_plots(with_scores)) == ["loss: term 0", "learning rate", "validation"]
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


def test_each_learning_rate_is_drawn_and_one_that_two_groups_share_once() -> None:
    lines = [{"step": step, "lr": [0.1 / step, 0.2 / step], "loss": {"total": 1.0}} for step in range(1, 9)]
    alike = [{**line, "lr": [line["lr"][0]] * 2} for line in lines]
    one = [{**line, "lr": line["lr"][:1]} for line in lines]
    drawn, same, single = (training_plots(each)["learning rate"] for each in (lines, alike, one))
    assert same == single != drawn


def test_curves_of_long_trainings_stay_small_and_keep_their_peaks() -> None:
    values = np.random.default_rng(0).standard_normal(50_000)
    values[31_234] = 50.0
    points = [(float(step), float(value)) for step, value in enumerate(values)]
    thinned = plots._thinned(points)
    assert len(thinned) == 2 * plots.MOST_PARTS and (31_234.0, 50.0) in thinned and thinned == sorted(thinned)
    assert len(training_plots([{"step": s, "loss": {"total": v}} for s, v in points])["loss: total"]) < 100_000
    reach = len(values) // 40
    middle = values[20_000 - reach : 20_001 + reach].mean()
    assert plots._smoothed(values)[20_000] == pytest.approx(middle)
    assert plots._smoothed(values)[0] == pytest.approx(values[0])
