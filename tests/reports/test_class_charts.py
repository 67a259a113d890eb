"""Bars of classes and the heat map of their confusion are those of the figures."""

from __future__ import annotations

import numpy as np
import pytest

from xmr_e2e.evaluation.confusion import Confusion
from xmr_e2e.evaluation.figures import PrecisionRecallCurve, PrecisionScopeCurve, RetrievalMetrics
from xmr_e2e.reports.class_charts import BARS_AT_ENDS, CONFUSED_PAIRS, MOST_BARS, bar_chart, heat_map


def of_classes(per_class: dict[int, float], mean: float) -> RetrievalMetrics:
    return RetrievalMetrics(
        scores={"mAP@all": mean},
        curve=PrecisionRecallCurve([], []),
        scope=PrecisionScopeCurve([], []),
        per_class=per_class,
        queries=1,
        gallery=1,
        queries_with_pair=1,
        queries_without_relevant=0,
    )


def test_bars_are_ordered_by_value_and_as_wide_as_their_share_of_the_widest() -> None:
    model, random = of_classes({0: 0.2, 1: 0.8, 2: 0.2}, 0.4), of_classes({0: 0.1, 1: 0.16, 2: 0.04}, 0.1)
    chart = bar_chart(model, random, ["c", "b", "a"])
    assert [(bar.name, bar.value, bar.width, bar.random, bar.random_width) for bar in chart.top] == [
        ("b", "0.800", 100.0, "0.160", 20.0),
        ("a", "0.200", 25.0, "0.040", 5.0),  # of the same value, by name
        ("c", "0.200", 25.0, "0.100", 12.5),
    ]
    assert (chart.mean.name, chart.mean.width, chart.mean.random_width) == ("mean", 50.0, 12.5)
    assert not chart.middle and not chart.bottom and not chart.left_out


def test_bars_of_nothing_but_zeros_have_no_width() -> None:
    zeros = of_classes({0: 0.0, 1: 0.0}, 0.0)
    assert [bar.width for bar in bar_chart(zeros, zeros, ["a", "b"]).top] == [0.0, 0.0]


@pytest.mark.parametrize("count", [3 * BARS_AT_ENDS, 3 * BARS_AT_ENDS + 1, MOST_BARS, MOST_BARS + 1])
def test_of_many_classes_the_best_and_the_worst_are_shown(count: int) -> None:
    model = of_classes({each: 1 - each / count for each in range(count)}, 0.5)
    chart = bar_chart(model, model, [str(each) for each in range(count)])
    top, middle, bottom = ([int(bar.name) for bar in bars] for bars in (chart.top, chart.middle, chart.bottom))
    assert chart.left_out == (count - 2 * BARS_AT_ENDS if count > MOST_BARS else 0)
    if count <= 3 * BARS_AT_ENDS:
        assert top == list(range(count)) and not middle and not bottom
    else:
        assert top == list(range(BARS_AT_ENDS)) and bottom == list(range(count - BARS_AT_ENDS, count))
        assert middle == ([] if chart.left_out else list(range(BARS_AT_ENDS, count - BARS_AT_ENDS)))


def confused(shares: np.ndarray | None, random: np.ndarray, largest: tuple[tuple[int, int, float], ...]) -> Confusion:
    return Confusion("image_to_text", shares, largest, random, 5, 10, False)


def test_the_heat_map_has_rows_of_classes_that_ask_and_columns_of_those_that_are_found() -> None:
    nan = float("nan")
    # Nobody asks for class 1, which some items have; nobody asks for class 3, which nothing has.
    shares = np.array([[0.5, 0.25, 0.004, 0], [nan] * 4, [0.1, 0, 0, 0], [nan] * 4])
    found = heat_map(confused(shares, np.array([0.6, 0.4, 0, 0]), ((0, 1, 0.25), (2, 0, 0.1))), ["a", "b", "c", "d"])
    assert found.names == ["a", "b", "c"]
    assert [name for name, _ in found.rows] == ["a", "c"]
    assert [[(cell.text, cell.depth, cell.own) for cell in cells] for _, cells in found.rows] == [
        [("50", "1.00", True), ("25", ".50", False), ("", "", False)],
        [("10", ".20", False), ("", "", False), ("", "", True)],
    ]
    assert [(cell.text, cell.depth, cell.own) for cell in found.random] == [
        ("60", "1.20", False), ("40", ".80", False), ("", "", False)
    ]  # fmt: skip
    assert list(found.largest) == [("a", "b", "25%"), ("c", "a", "10%")] and not found.left_out


def test_too_many_classes_for_cells_leave_the_largest_confusions() -> None:
    largest = tuple((0, each, 0.5) for each in range(1, 10))
    names = [str(each) for each in range(10)]
    found = heat_map(confused(None, np.full(10, 0.1), largest), names)
    assert not found.rows and found.left_out == 10 and len(found.largest) == 9
    assert len(heat_map(confused(np.eye(10), np.full(10, 0.1), largest), names).largest) == CONFUSED_PAIRS


@pytest.mark.parametrize(
    ("count", "wide", "dense"), [(14, False, False), (15, True, False), (30, True, False), (31, True, True)]
)
def test_many_classes_need_the_whole_width_and_leave_the_numbers_out(count: int, wide: bool, dense: bool) -> None:
    found = heat_map(confused(np.eye(count), np.full(count, 1 / count), ()), [str(each) for each in range(count)])
    assert (found.is_wide, found.is_dense) == (wide, dense)
