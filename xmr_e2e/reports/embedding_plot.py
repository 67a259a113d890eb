"""The map of the common space (`projection`), drawn twice: by class and by modality.

Points are a picture, and names of classes are texts of the page above it: whoever opens the page has fonts for the
scripts that they read, and this machine may have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xmr_e2e.evaluation.figures import modality_title
from xmr_e2e.evaluation.projection import Projection
from xmr_e2e.fonts import text_width
from xmr_e2e.reports.page import short_name
from xmr_e2e.reports.plots import GALLERY_COLORS, GREY, WIDTH, as_png

MARKERS = {"image": ("o", "●"), "text": ("^", "▲"), "audio": ("s", "■"), "video": ("D", "◆"), "shape3d": ("P", "✚")}
"""modality -> matplotlib's marker and the sign in the legend that looks like it"""
TOO_GREY = ("#7f7f7f", "#c7c7c7")
"""of matplotlib's palette "tab20", for they would look like all the other classes"""
HEIGHT = 4.8
PIXELS = 100
"""of the page, to an inch"""
FONT = 15
"""size of names, in pixels"""


@dataclass(frozen=True)
class Coloring:
    """Class -> colour, most frequent first."""

    colors: dict[int, str]
    others: int
    """number of further classes, drawn in grey"""


@dataclass(frozen=True)
class NameOnPlot:
    """A class's name, shortened, and its middle in pixels from the map's upper left corner."""

    text: str
    x: float
    y: float


@dataclass(frozen=True)
class EmbeddingPlot:
    """The map as it is shown."""

    by_class: bytes | None
    """None where there are no labels"""
    names: Sequence[NameOnPlot]
    """on the map by class"""
    by_modality: bytes
    classes: Sequence[tuple[str, str]]
    """name and colour"""
    modalities: Sequence[tuple[str, str, str]]
    """name, sign and colour"""
    note: str
    features: Sequence[tuple[str, bytes, Sequence[NameOnPlot]]] = ()
    """by class, what each modality's tower gives: modality, map and names"""
    width: int = round(WIDTH * PIXELS)
    height: int = round(HEIGHT * PIXELS)
    font: int = FONT

    @property
    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """The maps by name, without the names of classes on them."""
        if self.by_class is not None:
            yield "map by class", self.by_class
        yield "map by modality", self.by_modality
        yield from ((f"map of {modality} features", picture) for modality, picture, _ in self.features)


def color_classes(projection: Projection) -> Coloring:
    """A colour for each of the 18 most frequent classes of a map; more could not be told apart."""
    classes, counts = np.unique(np.concatenate(list(projection.classes.values())), return_counts=True)
    frequent = classes[np.argsort(-counts, kind="stable")].tolist()
    palette = [to_hex(colormaps["tab20"](number)) for number in (*range(0, 20, 2), *range(1, 20, 2))]
    palette = [color for color in palette if color not in TOO_GREY]
    colors = dict(zip(frequent, palette))
    return Coloring(colors, len(frequent) - len(colors))


def class_plot(projection: Projection, coloring: Coloring, names: Sequence[str]) -> tuple[bytes, list[NameOnPlot]]:
    """The map with a colour for each class and a marker for each modality; each class's name where most of its items
    lie."""
    figure, axes = _empty_map()
    for modality, points in projection.points.items():
        colors = [coloring.colors.get(int(number), GREY) for number in projection.classes[modality]]
        axes.scatter(points[:, 0], points[:, 1], c=colors, marker=MARKERS[modality][0], s=18, alpha=0.75, linewidths=0)
    picture = as_png(figure)  # the axes have their limits from here on
    drawn = set(np.concatenate(list(projection.classes.values())).tolist())
    shown = {number: names[number] for number in coloring.colors if number in drawn}
    return picture, _place_names(figure, axes, projection, shown)


def modality_plot(projection: Projection) -> bytes:
    """The same map with a colour and a marker for each modality: do they share the space?"""
    figure, axes = _empty_map()
    for (modality, points), color in zip(projection.points.items(), GALLERY_COLORS):
        axes.scatter(points[:, 0], points[:, 1], c=color, marker=MARKERS[modality][0], s=18, alpha=0.6, linewidths=0)
    return as_png(figure)


def embedding_plot(
    projection: Projection, names: Sequence[str], features: Mapping[str, Projection] = MappingProxyType({})
) -> EmbeddingPlot:
    """Both drawings of a map, their legends, and what they show in words; without labels, the one by modality.

    Args:
        features: modality -> map of what its tower gives, drawn in the same colors.
    """
    by_class: tuple[bytes | None, list[NameOnPlot]] = None, []
    legend: list[tuple[str, str]] = []
    below: list[tuple[str, bytes, Sequence[NameOnPlot]]] = []
    if projection.is_labeled:
        coloring = color_classes(projection)
        by_class = class_plot(projection, coloring, names)
        below = [(name, *class_plot(each, coloring, names)) for name, each in features.items()]
        legend = [(names[number], color) for number, color in coloring.colors.items()]
        if coloring.others:
            legend.append((f"{coloring.others} other classes", GREY))
    modalities = [(name, MARKERS[name][1], color) for name, color in zip(projection.points, GALLERY_COLORS)]
    drawn = (
        f"{projection.shown:,} items"
        if projection.shown == projection.items
        else (
            f"{projection.shown:,} of {projection.items:,} items, "
            f"drawn {'evenly over the classes' if projection.is_labeled else 'at random'}"
        )
    )
    signs = ", ".join(f"{sign} {modality_title(name)}" for name, sign, _ in modalities)
    note = (
        f"t-SNE of {drawn}, all modalities in one map: {signs}. "
        "What lies near in the common space lies near here; distances between far groups mean little. "
        + ("A sample of several labels has the colour of the rarest." if projection.is_multi_label else "")
    )
    return EmbeddingPlot(*by_class, modality_plot(projection), legend, modalities, note, below)


def _empty_map() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    axes.margins(0.03)
    return figure, axes


def _place_names(figure: Figure, axes: Axes, projection: Projection, names: Mapping[int, str]) -> list[NameOnPlot]:
    """Each class's name at its densest place, or above or below it where another name stands there."""
    points = np.concatenate(list(projection.points.values()))
    classes = np.concatenate(list(projection.classes.values()))
    to_fractions = axes.transData + figure.transFigure.inverted()
    width, height = WIDTH * PIXELS, HEIGHT * PIXELS
    taken: list[tuple[float, float, float]] = []
    placed = []
    for number, name in names.items():
        short = short_name(name)
        x, y = to_fractions.transform(_densest(points[classes == number])) * (width, height)
        half = 0.5 * text_width(short, FONT)
        x = float(np.clip(x, half, width - half))
        y = _free_height(taken, x, height - float(y), half)
        taken.append((x, y, half))
        placed.append(NameOnPlot(short, round(x, 1), round(y, 1)))
    return placed


def _free_height(taken: Sequence[tuple[float, float, float]], x: float, y: float, half: float) -> float:
    """The height nearest to y at which a name of this half width does not touch those that are there."""
    line = 1.25 * FONT
    for step in range(40):
        height = y + line * ((step + 1) // 2) * (1 if step % 2 else -1)
        is_free = all(
            abs(x - other_x) > half + other_half or abs(height - other_y) >= line
            for other_x, other_y, other_half in taken
        )
        if is_free and line / 2 <= height <= HEIGHT * PIXELS - line / 2:
            return height
    return y


def _densest(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The point with the nearest neighbours."""
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    near = np.sort(distances, axis=1)[:, : max(2, len(points) // 3)]
    return points[near.mean(1).argmin()]
