"""Figures of the report, curves as SVG and clouds of points as PNG, to be shown some 540 px wide, or 360 on a phone."""

from __future__ import annotations

import io
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from xmr_e2e.escape import on_plot
from xmr_e2e.evaluation.figures import (
    CrossModalMetrics,
    RetrievalMetrics,
    direction_name,
    direction_title,
    modality_title,
    split_direction,
)

Series: TypeAlias = dict[str, list[tuple[float, float]]]
Points: TypeAlias = tuple[Sequence[float], Sequence[float]]

# Okabe and Ito's palette, which the colour-blind can tell apart
BLUE, VERMILION, GREEN, PURPLE, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#767676"
GALLERY_COLORS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE)
LINE_MARKERS = ("o", "^", "s", "D", "P")
"""beside the colour, for whoever does not see it"""
SCOPE = "scope: the first k results"
"""of an axis; it is logarithmic, as the levels of k are"""
WIDTH = 5.4  # inches: 540 px at the 100 dpi that the sizes below are chosen for
LARGEST = 1e30  # of a loss: what is larger is a failure, and axes to it show nothing of the others
MOST_PARTS = 400  # of a curve over steps, in a panel of some 340 px
COLORS_OF_A_FILE = 128  # a palette: a third of the bytes, and no difference to see


def precision_recall_plot(metrics: CrossModalMetrics) -> bytes:
    """The precision-recall curves of all directions over those of random rankings.

    One panel for two modalities; for more, one for each modality of the queries.
    """
    return as_svg(_curves(metrics, "recall", _recall))


def precision_scope_plot(metrics: CrossModalMetrics) -> bytes:
    """Precision among the first k results over k, in panels as `precision_recall_plot`."""
    return as_svg(_curves(metrics, SCOPE, _scope))


def curve_pictures(metrics: CrossModalMetrics) -> dict[str, bytes]:
    """Both as PNG, by name; nothing without labels."""
    if not metrics.model.is_labeled:
        return {}
    return {
        "precision over recall": as_png(_curves(metrics, "recall", _recall)),
        "precision over scope": as_png(_curves(metrics, SCOPE, _scope)),
    }


def overlaid_plot(lines: Mapping[str, Points], random: Points | None, *, xlabel: str, ylabel: str) -> bytes:
    """Curves of several runs in one panel. lines: by the runs' letters. random: drawn in grey, for comparison."""
    figure = Figure(figsize=(WIDTH, 3.6 + 0.04 * len(lines)), layout="constrained")
    axes = styled(figure.add_subplot())
    colors = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000")
    for number, (label, points) in enumerate(lines.items()):
        color, marker = colors[number % len(colors)], LINE_MARKERS[number % len(LINE_MARKERS)]
        _line(axes, points, color, marker, label)
    if random:
        axes.plot(*random, "--", color=GREY, linewidth=1.6, label="random ranking")
    axes.set_ylabel(ylabel, fontsize=10)
    axes.set_ylim(bottom=0)
    _set_x_axis(axes, xlabel)
    figure.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=9)
    return as_svg(figure)


def training_plots(records: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """A panel per loss term ("loss: total"), one with the learning rates and one with the validation scores
    ("validation"), over optimiser steps.

    records: the lines of metrics.jsonl, in order. Loss terms stand under "loss" and validation scores under "val", as
    a mapping ({"loss": {"total": 1.2}}) or flat ({"loss/total": 1.2}); nested names are joined by "/". A record
    without "step" happened at the step of the record before it. Values that are not finite are left out.
    """
    losses, scores, rates = (_series(records, group) for group in ("loss", "val", "lr"))
    if not losses:
        return {}
    panels = {f"loss: {name}": _loss_plot(points) for name, points in losses.items()}
    if rates:
        panels["learning rate"] = _rates_plot(rates)
    return panels | ({"validation": _scores_plot(scores)} if scores else {})


def validation_series(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) of one validation score, such as "average mAP@all"."""
    return _series(records, "val").get(name, [])


def _recall(row: RetrievalMetrics) -> Points:
    return row.curve.recall, row.curve.precision


def _scope(row: RetrievalMetrics) -> Points:
    return row.scope.k, row.scope.precision


def _curves(metrics: CrossModalMetrics, xlabel: str, points: Callable[[RetrievalMetrics], Points]) -> Figure:
    of_two = len(metrics.model.modalities) == 2
    return (_both_directions if of_two else _panel_by_query)(metrics, xlabel, points)


def _both_directions(metrics: CrossModalMetrics, xlabel: str, points: Callable[[RetrievalMetrics], Points]) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    axes = figure.add_subplot()
    _plot_curves(axes, metrics, {name: direction_title(name) for name in metrics.model.directions}, points)
    _set_x_axis(axes, xlabel)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def _panel_by_query(metrics: CrossModalMetrics, xlabel: str, points: Callable[[RetrievalMetrics], Points]) -> Figure:
    modalities = metrics.model.modalities
    rows = math.ceil(len(modalities) / 2)
    figure = Figure(figsize=(WIDTH, 0.8 + 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, 2).flatten().tolist()
    entries: dict[str, Any] = {}  # of one legend for all panels
    for axes, query in zip(grid, modalities, strict=False):
        titles = {direction_name(query, other): f"→ {modality_title(other)}" for other in modalities if other != query}
        _plot_curves(axes, metrics, titles, points)
        axes.set_title(f"query: {modality_title(query)}", fontsize=10, loc="left")
        _set_x_axis(axes, xlabel)
        entries |= {label: line for line, label in zip(*axes.get_legend_handles_labels())}
    for axes in grid[len(modalities) :]:
        axes.set_axis_off()
    labels = [*(f"→ {modality_title(name)}" for name in modalities), "random ranking"]
    lines = [entries[label] for label in labels]
    figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _plot_curves(
    axes: Axes, metrics: CrossModalMetrics, labels: Mapping[str, str], points: Callable[[RetrievalMetrics], Points]
) -> None:
    """The curves of these directions, each modality of the gallery in its own colour, and the random ones in grey."""
    for direction, label in labels.items():
        number = metrics.model.modalities.index(split_direction(direction)[1])
        color, marker = GALLERY_COLORS[number], LINE_MARKERS[number]
        _line(axes, points(metrics.model.directions[direction]), color, marker, label)
    random_label = "random ranking"
    for direction in labels:
        axes.plot(*points(metrics.random.directions[direction]), "--", color=GREY, linewidth=1.6, label=random_label)
        random_label = "_"  # all but the same curve: one entry in the legend
    rows = [row for way in (metrics.model, metrics.random) for row in way.directions.values()]
    highest = max(max(points(row)[1]) for row in rows)
    styled(axes).set_ylabel("precision", fontsize=10)
    axes.set_ylim(0, min(1.0, 1.1 * highest) or 1.0)


def _set_x_axis(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=10)
    if label == SCOPE:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
    elif label == "recall":
        axes.set_xlim(0, 1.02)


def _line(axes: Axes, points: Points, color: str, marker: str, label: str) -> None:
    every = max(1, len(points[0]) // 7)
    axes.plot(*points, color=color, linewidth=1.8, marker=marker, markersize=5, markevery=every, label=on_plot(label))


def _loss_plot(points: list[tuple[float, float]]) -> bytes:
    figure, axes = _training_panel()
    steps, values = zip(*points, strict=True)
    axes.plot(*zip(*_thinned(points), strict=True), color=BLUE, alpha=0.35, linewidth=0.8)
    axes.plot(*zip(*_thinned([*zip(steps, _smoothed(values))]), strict=True), color=BLUE, linewidth=1.6)
    return as_svg(figure)


def _rates_plot(rates: Series) -> bytes:
    """A line for each group of parameters that has a rate of its own."""
    figure, axes = _training_panel()
    for points in {tuple(points) for points in rates.values()}:
        axes.plot(*zip(*points, strict=True), color=BLUE, linewidth=1.4)
    axes.set_ylim(bottom=0)
    return as_svg(figure)


def _scores_plot(scores: Series) -> bytes:
    """Directions as in the other figures, the average (or the loss) in grey."""
    figure, axes = _training_panel()
    directions = {name: name.partition(" ")[0] for name in scores}
    modalities = list(dict.fromkeys(split_direction(each)[0] for each in directions.values() if "_to_" in each))
    for name, points in scores.items():
        title, color, marker = directions[name], GREY, "s"
        if "_to_" in title:
            number = modalities.index(split_direction(title)[1])
            title, color, marker = direction_title(title), GALLERY_COLORS[number], LINE_MARKERS[number]
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, marker=marker, markersize=4, linewidth=1.4, color=color, label=on_plot(title))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return as_svg(figure)


def _training_panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.5, 2.2), layout="constrained")
    axes = styled(figure.add_subplot())
    axes.set_xlabel("step", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure, axes


def _series(records: Sequence[Mapping[str, Any]], group: str) -> Series:
    """name -> [(step, value)] of all finite numbers that stand under `group`."""
    series: Series = defaultdict(list)
    step = 0.0
    for record in records:
        step = float(record.get("step", step))
        own = {name: value for name, value in record.items() if name == group or name.startswith(f"{group}/")}
        for name, value in _flattened(own):
            series[name.removeprefix(f"{group}/")].append((step, value))
    return series


def _flattened(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, list):
            value = {str(number): each for number, each in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and -LARGEST < value < LARGEST:  # and not NaN
            yield f"{prefix}{name}", float(value)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of many points, the least and the largest of each of as many parts as can be told apart."""
    if len(points) <= 2 * MOST_PARTS:
        return points
    starts = np.linspace(0, len(points), MOST_PARTS + 1).astype(int).tolist()
    parts = [points[start:end] for start, end in itertools.pairwise(starts)]
    ends = [(min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])) for part in parts]
    return [point for pair in ends for point in sorted(pair)]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Mean of each value and its neighbours, over a twentieth of the curve; narrower at the ends, so they are true."""
    near = np.minimum(len(values) // 40, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    smoothed: list[float] = ((sums[index + near + 1] - sums[index - near]) / (2 * near + 1)).tolist()
    return smoothed


def styled(axes: Axes) -> Axes:
    """Axes as all figures have them: a light grid, no frame above and at the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.tick_params(labelsize=9)
    return axes


def as_png(figure: Figure) -> bytes:
    """A figure as PNG."""
    drawn = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(drawn, format="png", dpi=200)
    out = io.BytesIO()
    image = Image.open(drawn).convert("RGB")
    image.quantize(COLORS_OF_A_FILE, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def as_svg(figure: Figure) -> bytes:
    """A figure as SVG, its letters as outlines: it looks the same wherever it is opened, and is the same each time."""
    drawn = io.BytesIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": "xmr_e2e"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()
