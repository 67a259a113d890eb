"""Figures of the report, as PNG bytes: made to be shown 700 px wide, drawn at twice that."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xmr_e2e.evaluation.directions import (
    CrossModalFigures,
    direction_name,
    direction_title,
    modality_title,
    split_direction,
)

Series: TypeAlias = dict[str, list[tuple[float, float]]]

# Okabe and Ito's palette, which the colour-blind can tell apart
BLUE, VERMILION, GREEN, PURPLE, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#767676"
GALLERY_COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE)
WIDTH = 7.0  # inches: 700 px at the 100 dpi that the sizes below are chosen for


def precision_recall_plot(figures: CrossModalFigures) -> bytes:
    """The precision-recall curves of all directions over those of random rankings.

    One panel for two modalities; for more, one for each modality of the queries.
    """
    return _png(_both_directions(figures) if len(figures.model.modalities) == 2 else _panel_by_query(figures))


def training_plot(records: Sequence[Mapping[str, Any]]) -> bytes:
    """One panel per loss term, and one with the validation scores, over optimiser steps.

    records: the lines of metrics.jsonl, in order. Loss terms stand under "loss" and validation scores under "val", as
    a mapping ({"loss": {"total": 1.2}}) or flat ({"loss/total": 1.2}); nested names are joined by "/". A record
    without "step" happened at the step of the record before it. Values that are not finite are left out.
    Raises ValueError if no record has a loss term.
    """
    losses, scores = _series(records, "loss"), _series(records, "val")
    if not losses:
        raise ValueError("none of the records has a loss term")
    panels = len(losses) + bool(scores)
    columns = min(2, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten().tolist()
    for axes, (name, points) in zip(grid, losses.items(), strict=False):
        _plot_loss(_styled(axes), name, points)
    if scores:
        _plot_scores(_styled(grid[len(losses)]), scores)
    for axes in grid[panels:]:
        axes.set_axis_off()
    for axes in grid[panels - columns : panels]:
        axes.set_xlabel("step", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.tick_params(labelbottom=True)
    return _png(figure)


def _both_directions(figures: CrossModalFigures) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.add_subplot()
    labels = {
        name: f"{direction_title(name)}  (mAP@all {row.scores['mAP@all']:.3f})"
        for name, row in figures.model.figures.items()
    }
    _plot_curves(axes, figures, labels, f"random ranking  (mAP@all {figures.random.average['mAP@all']:.3f})")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _panel_by_query(figures: CrossModalFigures) -> Figure:
    modalities = figures.model.modalities
    rows = math.ceil(len(modalities) / 2)
    figure = Figure(figsize=(WIDTH, 0.8 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 2).flatten().tolist()
    entries: dict[str, Any] = {}  # of one legend for all panels
    for axes, query in zip(grid, modalities, strict=False):
        titles = {direction_name(query, other): f"→ {modality_title(other)}" for other in modalities if other != query}
        _plot_curves(axes, figures, titles, "random ranking")
        axes.set_title(f"query: {modality_title(query)}", fontsize=10, loc="left")
        entries |= {label: line for line, label in zip(*axes.get_legend_handles_labels())}
    for axes in grid[len(modalities) :]:
        axes.set_axis_off()
    labels = [*(f"→ {modality_title(name)}" for name in modalities), "random ranking"]
    lines = [entries[label] for label in labels]
    figure.legend(lines, labels, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=9)
    return figure


def _plot_curves(axes: Axes, figures: CrossModalFigures, labels: Mapping[str, str], random_label: str) -> None:
    """The curves of these directions, each modality of the gallery in its own colour, and the random ones in grey."""
    for direction, label in labels.items():
        curve = figures.model.figures[direction].curve
        colour = GALLERY_COLOURS[figures.model.modalities.index(split_direction(direction)[1])]
        axes.plot(curve.recall, curve.precision, color=colour, linewidth=1.8, label=label)
    for direction in labels:
        curve = figures.random.figures[direction].curve
        axes.plot(curve.recall, curve.precision, "--", color=GREY, linewidth=1.8, label=random_label)
        random_label = "_"  # all but the same curve: one entry in the legend
    rows = [row for way in (figures.model, figures.random) for row in way.figures.values()]
    highest = max(max(row.curve.precision) for row in rows)
    _styled(axes).set(xlim=(0, 1), ylim=(0, min(1.0, 1.1 * highest) or 1.0), xlabel="recall", ylabel="precision")


def _plot_loss(axes: Axes, name: str, points: list[tuple[float, float]]) -> None:
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=BLUE, alpha=0.35, linewidth=0.8)
    axes.plot(steps, _smoothed(values), color=BLUE, linewidth=1.6)
    axes.set_title(f"loss: {name}", fontsize=10, loc="left")


def _plot_scores(axes: Axes, scores: Series) -> None:
    colours = (GREEN, VERMILION, BLUE, GREY)
    for index, (name, points) in enumerate(scores.items()):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, "o-", markersize=3, linewidth=1.4, color=colours[index % len(colours)], label=name)
    axes.set_title("validation", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8)


def _series(records: Sequence[Mapping[str, Any]], group: str) -> Series:
    """name -> [(step, value)] of all finite numbers that stand under `group`."""
    series: Series = defaultdict(list)
    step = 0.0
    for record in records:
        step = float(record.get("step", step))
        for name, value in _flattened(record):
            if name.startswith(f"{group}/") and math.isfinite(value):
                series[name.removeprefix(f"{group}/")].append((step, value))
    return series


def _flattened(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Mean of each value and its neighbours, over a twentieth of the curve; narrower at the ends, so they are true."""
    reach = len(values) // 40
    smoothed = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        window = values[index - near : index + near + 1]
        smoothed.append(sum(window) / len(window))
    return smoothed


def _styled(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.tick_params(labelsize=9)
    return axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    # without the name of the drawing software, so that the same figures give the same bytes
    figure.savefig(out, format="png", dpi=200, metadata={"Software": None})
    return out.getvalue()
