"""Classes in the report: bars of their mAP and the heat map of their confusion, as rows of a page's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xmr_e2e.evaluation.confusion import Confusion
from xmr_e2e.evaluation.figures import RetrievalMetrics
from xmr_e2e.reports.page import number

BARS_AT_ENDS = 15
"""Of more than three times as many classes, so many of the best and of the worst are shown, the others on demand."""
WIDE = 14
"""More classes than that need the page's whole width."""
DENSE = 30
"""More classes than that have a heat map without numbers."""
CONFUSED_PAIRS = 6
MOST_BARS = 300
"""With more classes, only those at the ends have bars: a page of thousands is slow, and its data have all values."""


@dataclass(frozen=True)
class Bar:
    """A value of a class, or the mean, beside the same of random rankings; widths are hundredths of the chart's."""

    name: str
    value: str
    width: float
    random: str
    random_width: float


@dataclass(frozen=True)
class BarChart:
    """Bars, best first; those in the middle only where there are many."""

    mean: Bar
    top: Sequence[Bar]
    middle: Sequence[Bar]
    bottom: Sequence[Bar]
    left_out: int = 0
    """in the middle, where there are too many"""


@dataclass(frozen=True)
class HeatCell:
    text: str
    depth: str
    """of the colour, 0 to 1; empty for none"""
    own: bool = False
    """on the diagonal"""


@dataclass(frozen=True)
class HeatMap:
    """A confusion, as rows of cells."""

    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]
    random: Sequence[HeatCell]
    largest: Sequence[tuple[str, str, str]]
    """class that asked, class that was found, share"""
    left_out: int = 0
    """classes, where there are too many for rows of cells; then there are more of the largest instead"""

    @property
    def is_wide(self) -> bool:
        return len(self.names) > WIDE

    @property
    def is_dense(self) -> bool:
        return len(self.names) > DENSE


def bar_chart(model: RetrievalMetrics, random: RetrievalMetrics, classes: Sequence[str]) -> BarChart:
    """mAP@all of the queries of each class, in one direction."""
    scores = [(classes[each], value, random.per_class[each]) for each, value in model.per_class.items()]
    scores.sort(key=lambda row: (-row[1], row[0]))
    full = max([value for _, *values in scores for value in values] + [model.scores["mAP@all"], 1e-9])

    def bar(name: str, value: float, chance: float) -> Bar:
        return Bar(name, number(value), round(100 * value / full, 1), number(chance), round(100 * chance / full, 1))

    bars = [bar(*row) for row in scores]
    mean = bar("mean", model.scores["mAP@all"], random.scores["mAP@all"])
    if len(bars) <= 3 * BARS_AT_ENDS:
        return BarChart(mean, bars, [], [])
    top, middle, bottom = bars[:BARS_AT_ENDS], bars[BARS_AT_ENDS:-BARS_AT_ENDS], bars[-BARS_AT_ENDS:]
    return (
        BarChart(mean, top, middle, bottom) if len(bars) <= MOST_BARS else BarChart(mean, top, [], bottom, len(middle))
    )


def heat_map(confusion: Confusion, classes: Sequence[str]) -> HeatMap:
    """A row for each class that queries have, a column for each that queries or items have."""
    largest = [(classes[a], classes[b], f"{share:.0%}") for a, b, share in confusion.largest]
    if confusion.shares is None:
        return HeatMap([], [], [], largest, left_out=len(confusion.random))
    shares, random = confusion.shares.tolist(), confusion.random.tolist()
    asked = [each for each, row in enumerate(shares) if not math.isnan(row[0])]
    found = [each for each in range(len(random)) if each in asked or random[each] > 0]
    deepest = max([shares[row][column] for row in asked for column in found], default=0) or 1.0
    rows = [(classes[row], [_cell(shares[row][column], deepest, row == column) for column in found]) for row in asked]
    floor = [_cell(random[column], deepest, False) for column in found]
    return HeatMap([classes[column] for column in found], rows, floor, largest[:CONFUSED_PAIRS])


def _cell(share: float, deepest: float, own: bool) -> HeatCell:
    percent = round(100 * share)
    return HeatCell(str(percent) if percent else "", f"{share / deepest:.2f}".lstrip("0") if percent else "", own)
