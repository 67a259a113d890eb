"""The figures are SVGs of the stated size and change with what they show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.figures import CrossModalMetrics, RetrievalMetrics
from xmr_e2e.reports import plots
from xmr_e2e.reports.plots import precision_recall_plot, precision_scope_plot, training_plots, validation_series

pytestmark = pytest.mark.slow


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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, laid out."""
    found: list[Figure] = []
    as_svg = plots.as_svg
    monkeypatch.setattr(plots, "as_svg", lambda figure: found.append(figure) or as_svg(figure))
    return found


def curves(axes: Axes) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Label, colour and points of each line."""
    return [
        (str(line.get_label()), str(line.get_color()), [(float(x), float(y)) for x, y in zip(*line.get_data())])
        for line in axes.lines
    ]


def legend(figure: Figure) -> list[tuple[str, Any]]:
    """Text and colour of each entry."""
    (box,) = figure.legends
    handles = [handle.get_color() for handle in box.legend_handles]  # type: ignore[union-attr]
    return [(text.get_text(), color) for text, color in zip(box.get_texts(), handles, strict=True)]


def points_of(row: RetrievalMetrics, plot: object) -> list[tuple[float, float]]:
    x, y = (
        (row.curve.recall, row.curve.precision) if plot is precision_recall_plot else (row.scope.k, row.scope.precision)
    )
    return list(zip(map(float, x), map(float, y)))


PLOTS = pytest.mark.parametrize("plot", [precision_recall_plot, precision_scope_plot])


@PLOTS
def test_two_modalities_have_both_directions_and_their_chance_in_one_panel(
    plot: Callable[[CrossModalMetrics], bytes], drawn: list[Figure]
) -> None:
    given = metrics(0.3)
    plot(given)
    (figure,) = drawn
    (axes,) = figure.axes
    lines = curves(axes)
    titles = {"image_to_text": "image → text", "text_to_image": "text → image"}
    assert [label for label, *_ in lines] == [*titles.values(), "random ranking", "_"]
    for (_, _, points), row in zip(
        lines, [*given.model.directions.values(), *given.random.directions.values()], strict=True
    ):
        assert points == points_of(row, plot)
    assert len({color for _, color, _ in lines}) == 3  # the random ones are alike
    assert legend(figure) == [(label, color) for label, color, _ in lines[:3]]
    highest = max(y for *_, points in lines for _, y in points)
    assert axes.get_ylim() == pytest.approx((0, min(1, 1.1 * highest)))
    assert axes.get_ylabel() == "precision"
    is_scope = plot is precision_scope_plot
    assert axes.get_xscale() == ("log" if is_scope else "linear")
    assert axes.get_xlabel() == (plots.SCOPE if is_scope else "recall")
    inside = figure.bbox.padded(1)
    for part in (axes.get_tightbbox(), figure.legends[0].get_window_extent()):
        assert part is not None and inside.contains(part.x0, part.y0) and inside.contains(part.x1, part.y1)


def test_axes_reach_above_the_highest_curve_also_where_all_are_low(drawn: list[Figure]) -> None:
    low = metrics(30.0)
    precision_recall_plot(low)
    highest = max(y for *_, points in curves(drawn[0].axes[0]) for _, y in points)
    assert highest < 0.8
    assert drawn[0].axes[0].get_ylim() == pytest.approx((0, 1.1 * highest))


@PLOTS
def test_each_panel_has_the_queries_of_one_modality_and_the_colours_of_the_galleries(
    plot: Callable[[CrossModalMetrics], bytes], drawn: list[Figure]
) -> None:
    modalities = ("image", "text", "audio")
    given = metrics(0.3, modalities)
    plot(given)
    (figure,) = drawn
    assert len(figure.axes) == 4 and [axes.axison for axes in figure.axes] == [True, True, True, False]
    colors: dict[str, set[str]] = {}
    for query, axes in zip(modalities, figure.axes):
        others = [each for each in modalities if each != query]
        assert axes.get_title(loc="left") == f"query: {query}"
        lines = curves(axes)
        assert [label for label, *_ in lines] == [*(f"→ {each}" for each in others), "random ranking", "_"]
        rows = [way.directions[f"{query}_to_{each}"] for way in (given.model, given.random) for each in others]
        for (label, color, points), row in zip(lines, rows, strict=True):
            assert points == points_of(row, plot)
            colors.setdefault(label, set()).add(color)
    entries = [*(f"→ {each}" for each in modalities), "random ranking"]
    assert all(len(colors[label]) == 1 for label in entries)
    assert legend(figure) == [(label, next(iter(colors[label]))) for label in entries]
    assert len({color for _, color in legend(figure)}) == 4


def test_a_panel_of_a_loss_has_its_values_and_their_mean(drawn: list[Figure]) -> None:
    lines = [{"step": step, "loss": {"total": float(step % 2)}} for step in range(1, 101)]
    training_plots(lines)
    values, means = (points for *_, points in curves(drawn[0].axes[0]))
    assert values == [(step, step % 2) for step in range(1, 101)]
    assert [x for x, _ in means] == list(range(1, 101))
    assert means[0][1] == 1 and means[-1][1] == 0
    assert means[50][1] == pytest.approx(np.mean([step % 2 for step in range(49, 54)]))  # a twentieth of 100
    assert means[1][1] == pytest.approx(2 / 3)
    assert drawn[0].axes[0].get_xlabel() == "step"


def test_rates_are_drawn_from_zero(drawn: list[Figure]) -> None:
    training_plots([{"step": step, "lr": [0.1, 0.3 / step], "loss": {"total": 1.0}} for step in range(1, 9)])
    found = sorted(points for *_, points in curves(drawn[1].axes[0]))
    assert found[0] == [(step, 0.1) for step in range(1, 9)]
    assert found[1] == [(step, pytest.approx(0.3 / step)) for step in range(1, 9)]
    assert drawn[1].axes[0].get_ylim()[0] == 0


def test_scores_have_their_directions_colours_and_the_average_is_grey(drawn: list[Figure]) -> None:
    figure_names = ("image_to_text mAP@all", "text_to_image mAP@all", "average mAP@all")
    records = [{"step": step, "val": dict(zip(figure_names, (0.1, 0.2, 0.15)))} for step in (5, 10)]
    training_plots([*({"step": 1, "loss": {"total": 1.0}},), *records])
    axes = drawn[-1].axes[0]
    lines = curves(axes)
    assert [(label, points) for label, _, points in lines] == [
        ("image → text", [(5, 0.1), (10, 0.1)]),
        ("text → image", [(5, 0.2), (10, 0.2)]),
        ("average", [(5, 0.15), (10, 0.15)]),
    ]
    # As in the curves: a direction has the colour of its gallery.
    assert [color for _, color, _ in lines] == [plots.BLUE, plots.VERMILION, plots.GREY]
    assert [text for text, _ in legend(drawn[-1])] == [label for label, *_ in lines]


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
