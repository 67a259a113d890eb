"""Figures of a study, as SVG: rows with error bars, curves of swept fields, validation in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from xmr_e2e.escape import on_plot
from xmr_e2e.reports.plots import BLUE, GREEN, GREY, LINE_MARKERS, ORANGE, PURPLE, VERMILION, WIDTH, as_svg, styled

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000")
MOST_CURVES = len(COLORS)


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds."""

    mean: float
    deviation: float
    """0 of one seed"""


def rows_plot(rows: Mapping[str, Estimate], *, reference: str, xlabel: str, random: float | None = None) -> bytes:
    """Rows below each other, a point and an error bar each; a line through the reference, random rankings dashed."""
    figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = styled(figure.add_subplot())
    names = list(rows)[::-1]
    for place, name in enumerate(names):
        color = VERMILION if name == reference else BLUE
        own = rows[name]
        axes.errorbar(own.mean, place, xerr=own.deviation, fmt="o", color=color, capsize=3, markersize=5)
    if reference in rows:
        axes.axvline(rows[reference].mean, color=VERMILION, linewidth=0.9, alpha=0.6)
    if random is not None:
        axes.axvline(random, color=GREY, linestyle="--", linewidth=1.2, label="random ranking")
        figure.legend(loc="outside lower center", frameon=False, fontsize=9)
    axes.set_yticks(range(len(names)), [on_plot(name) for name in names], fontsize=9)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(on_plot(xlabel), fontsize=10)
    return as_svg(figure)


def sweep_plot(
    curves: Mapping[str, Sequence[tuple[float, Estimate]]],
    *,
    xlabel: str,
    ylabel: str,
    is_logarithmic: bool = False,
    recipe_value: float | None = None,
) -> bytes:
    """Figures over the values of a field, each curve with a band of one deviation.

    Args:
        curves: such as direction -> points in the order of the field's values.
        recipe_value: the recipe's own, at which a line stands.
    """
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    axes = styled(figure.add_subplot())
    for number, (name, points) in enumerate(curves.items()):
        color, marker = COLORS[number % len(COLORS)], LINE_MARKERS[number % len(LINE_MARKERS)]
        x = np.array([value for value, _ in points])
        mean = np.array([own.mean for _, own in points])
        deviation = np.array([own.deviation for _, own in points])
        axes.plot(x, mean, color=color, marker=marker, markersize=5, label=on_plot(name))
        axes.fill_between(x, mean - deviation, mean + deviation, color=color, alpha=0.18, linewidth=0)
    if is_logarithmic:
        axes.set_xscale("log")
    if recipe_value is not None:
        axes.axvline(recipe_value, color=GREY, linestyle=":", linewidth=1.4, label="the recipe's value")
    axes.set_xlabel(on_plot(xlabel), fontsize=10)
    axes.set_ylabel(on_plot(ylabel), fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return as_svg(figure)


def convergence_plot(curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]], *, ylabel: str) -> bytes:
    """Validation over steps: the mean over seeds, in a band from the lowest seed to the highest.

    curves: row -> for each seed, (step, value); at most MOST_CURVES rows.
    """
    figure = Figure(figsize=(WIDTH, 3.5 + 0.08 * len(curves)), layout="constrained")
    axes = styled(figure.add_subplot())
    for number, (name, seeds) in enumerate(curves.items()):
        color, marker = COLORS[number % len(COLORS)], LINE_MARKERS[number % len(LINE_MARKERS)]
        by_seed = [dict(points) for points in seeds]
        steps = sorted(set.intersection(*(set(points) for points in by_seed)))
        values = np.array([[points[step] for step in steps] for points in by_seed])
        axes.plot(steps, values.mean(0), color=color, marker=marker, markersize=4, label=on_plot(name))
        if len(values) > 1:
            axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("step", fontsize=10)
    axes.set_ylabel(on_plot(ylabel), fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return as_svg(figure)
