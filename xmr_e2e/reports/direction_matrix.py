"""The matrix of directions as a picture: a row for each modality of the queries, a column for each gallery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xmr_e2e.evaluation.figures import OTHERS, CrossModalMetrics, direction_name, modality_title
from xmr_e2e.reports.page import number
from xmr_e2e.reports.plots import WIDTH, as_png, as_svg

GAP = 0.2
"""before the column of mixed pools, in widths of a cell"""
NO_COLOR = "#f4f4f4"
"""of a cell without a ratio, and of those that are no directions"""
BELOW_RANDOM = "#f6d3bf"
DARK = 0.75
"""of the colour scale: letters are white from there on"""
LEAST_TOP = 2.0
"""times random of the deepest colour, at least: noise about 1 stays pale"""


class Cell(NamedTuple):
    """A direction's score, and how many times that of random rankings it is; None where these have none, or 0."""

    row: int
    column: int
    value: float | None
    ratio: float | None


def matrix_svg(metrics: CrossModalMetrics, score: str) -> bytes:
    """The matrix of a score as SVG. Mixed pools, where they were measured, are the last column."""
    return as_svg(draw_matrix(metrics, score))


def matrix_png(metrics: CrossModalMetrics, score: str) -> bytes:
    """The same as PNG."""
    return as_png(draw_matrix(metrics, score))


def draw_matrix(metrics: CrossModalMetrics, score: str) -> Figure:
    """Cells with the score and, below it, how many times random it is, which their colour shows, too."""
    modalities = metrics.model.modalities
    cells = list(matrix_cells(metrics, score))
    figure = Figure(figsize=(WIDTH, 0.8 + 0.6 * len(modalities)), layout="constrained")
    axes = figure.add_subplot()
    norm = Normalize(1, max([LEAST_TOP, *(cell.ratio for cell in cells if cell.ratio is not None)]))
    for place in range(len(modalities)):
        axes.add_patch(Rectangle((place, place), 1, 1, facecolor=NO_COLOR, edgecolor="white", linewidth=2))
    for cell in cells:
        _draw_cell(axes, cell, len(modalities), norm)
    _label(axes, modalities, with_pools=bool(metrics.model.pools))
    return figure


def matrix_cells(metrics: CrossModalMetrics, score: str) -> Iterator[Cell]:
    """The cells of all directions and mixed pools; those of pools stand in the column behind the modalities."""
    ours, floors = metrics.model.rows, metrics.random.rows
    modalities = metrics.model.modalities
    for row, query in enumerate(modalities):
        for column, gallery in enumerate((*modalities, OTHERS)):
            name = direction_name(query, gallery)
            if name in ours:
                value, floor = ours[name].scores.get(score), floors[name].scores.get(score)
                yield Cell(row, column, value, value / floor if value is not None and floor else None)


def _draw_cell(axes: Axes, cell: Cell, pools: int, norm: Normalize) -> None:
    left = cell.column + (GAP if cell.column == pools else 0)
    depth = None if cell.ratio is None else float(norm(cell.ratio))
    color = NO_COLOR if depth is None else BELOW_RANDOM if depth < 0 else _scale()(depth)
    axes.add_patch(Rectangle((left, cell.row), 1, 1, facecolor=color, edgecolor="white", linewidth=2))
    ink = "white" if depth is not None and depth > DARK else "#1f2328"
    middle = left + 0.5
    value = "–" if cell.value is None else number(cell.value)
    height = cell.row + (0.5 if cell.ratio is None else 0.36)
    axes.text(middle, height, value, color=ink, ha="center", va="center", fontsize=11, fontweight="bold")
    if cell.ratio is not None:
        axes.text(middle, cell.row + 0.72, f"{cell.ratio:.1f}×", color=ink, ha="center", va="center", fontsize=9)


def _scale() -> Colormap:
    """From white to a blue that is not black."""
    blues = colormaps["Blues"]
    return ListedColormap([blues(0.9 * step / 255) for step in range(256)])


def _label(axes: Axes, modalities: tuple[str, ...], *, with_pools: bool) -> None:
    count = len(modalities)
    middles = [place + 0.5 for place in range(count)]
    axes.set_xlim(0, count + (1 + GAP if with_pools else 0))
    axes.set_ylim(count, 0)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    pool = ([count + GAP + 0.5], ["all\nothers"]) if with_pools else ([], [])
    axes.set_xticks(middles + pool[0], [*map(modality_title, modalities), *pool[1]], fontsize=10)
    axes.set_yticks(middles, [*map(modality_title, modalities)], fontsize=10)
    axes.set_xlabel("gallery", fontsize=10)
    axes.set_ylabel("query", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
