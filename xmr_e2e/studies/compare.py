"""Ours beside published and random, setting by setting."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.figures import is_pool
from xmr_e2e.methods.discovery import method_title
from xmr_e2e.studies.groups import Group, Statistic
from xmr_e2e.studies.marks import family, marks_of_group, marks_of_published
from xmr_e2e.studies.published import PublishedTable, published_tables
from xmr_e2e.studies.runs import Setting

PUBLISHED = ("mAP@all", "mAP@50", "NDCG@500")
"""the metrics of the five papers"""

Kind: TypeAlias = Literal["ours", "published", "random"]


@dataclass(frozen=True)
class Cell:
    """One figure."""

    value: Statistic | str
    """over seeds; or as published, with the digits that are printed"""
    marks: tuple[str, ...] = ()
    """doubts about this one"""


@dataclass(frozen=True)
class ComparisonRow:
    """One method's figures from one source."""

    kind: Kind
    method: str
    source: str
    """the recipe, or the paper and its table"""
    cells: Mapping[str, Cell]
    """direction, "average", or mixed pool -> its figure, where there is one"""
    seeds: int | None = None
    minutes: float | None = None
    """of a training, mean over the seeds"""
    peak_memory: int | None = None
    """bytes, of the largest training"""
    marks: tuple[str, ...] = ()
    """reasons why they cannot be compared with the others as they stand"""


@dataclass(frozen=True)
class Comparison:
    """All figures of one metric in one setting."""

    setting: Setting
    metric: str
    directions: tuple[str, ...]
    """and "average", and behind it the mixed pools that any of the runs was measured in"""
    rows: tuple[ComparisonRow, ...]
    remarks: tuple[str, ...]
    """notes of what is missing, in sentences"""


def compare(groups: Sequence[Group], metrics: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each setting, set of directions and metric that was measured.

    metrics: by default those of the five papers.
    Raises:
        XmrError: a metric that no run has.
    """
    measured = {metric for group in groups for metric in _metrics(group)}
    for metric in metrics:
        if metric not in measured:
            raise XmrError(f"--metrics {metric}: no run has it; there are {', '.join(sorted(measured))}")
    settings: dict[tuple[Setting, tuple[str, ...]], list[Group]] = defaultdict(list)
    for group in groups:
        settings[group.first.setting, _without_pools(group.first.scores)].append(group)
    return [
        _comparison(setting, (*directions, *_pools(having)), having, metric)
        for (setting, directions), members in sorted(settings.items(), key=_place)
        for metric in metrics or PUBLISHED
        if (having := [group for group in members if metric in _metrics(group)])
    ]


def _without_pools(directions: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in directions if not is_pool(name))


def _pools(groups: Sequence[Group]) -> list[str]:
    """Each once; early versions measured in none."""
    return list(dict.fromkeys(name for group in groups for name in group.first.scores if is_pool(name)))


def _metrics(group: Group) -> Mapping[str, float]:
    return group.first.scores["average"]


def _place(item: tuple[tuple[Setting, tuple[str, ...]], list[Group]]) -> tuple[str, ...]:
    (setting, directions), _ = item
    return setting.dataset, setting.split, setting.protocol, str(setting.sizes), *directions


def _comparison(setting: Setting, directions: tuple[str, ...], groups: Sequence[Group], metric: str) -> Comparison:
    by_method: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_method[group.first.method].append(group)
    rows: list[ComparisonRow] = []
    for method, own in sorted(by_method.items()):
        rows += [_ours(group, directions, metric) for group in own]
        rows += [_published(table, method, own[0], directions) for table in _tables(method, setting, metric)]
    rows.append(_random(groups, directions, metric))
    return Comparison(setting, metric, directions, tuple(rows), tuple(_remarks(setting, sorted(by_method), metric)))


def _tables(method: str, setting: Setting, metric: str | None = None) -> list[PublishedTable]:
    """Those that have the method on this dataset, or on another part of the same one."""
    return [
        table
        for table in published_tables()
        if method in table.rows and family(table.dataset) == family(setting.dataset) and metric in (None, table.metric)
    ]


def _ours(group: Group, directions: Sequence[str], metric: str) -> ComparisonRow:
    found = {direction: group.statistic(direction, metric) for direction in directions}
    cells = {direction: Cell(value) for direction, value in found.items() if value}
    method = method_title(group.first.method)
    marks = tuple(marks_of_group(group))
    return ComparisonRow(
        "ours", method, group.label, cells, len(group.by_seed), group.minutes, group.peak_memory, marks
    )


def _published(table: PublishedTable, method: str, group: Group, directions: Sequence[str]) -> ComparisonRow:
    marks = tuple(marks_of_published(table, method, group))
    cells = published_cells(table, method, directions)
    return ComparisonRow("published", method_title(method), table.source, cells, marks=marks)


def published_cells(table: PublishedTable, row: str, directions: Sequence[str]) -> dict[str, Cell]:
    """Direction -> a row's published figure, of those that were measured."""
    cells = {}
    for direction, value in table.figures(row).items():
        # An average over other directions is another figure.
        is_comparable = direction != "average" or set(table.directions) == set(_without_pools(directions))
        if direction in directions and is_comparable:
            doubt = table.doubts.get(f"{row} {direction}")
            cells[direction] = Cell(value, (doubt,) if doubt else ())
    return cells


def _random(groups: Sequence[Group], directions: Sequence[str], metric: str) -> ComparisonRow:
    runs = [each for group in groups for each in group.measurements]
    cells = {}
    for direction in directions:
        values = [run.random[direction][metric] for run in runs if metric in run.random.get(direction, {})]
        if values:
            cells[direction] = Cell(Statistic(statistics.fmean(values), None, len(values)))
    return ComparisonRow("random", "random ranking", "", cells)


def _remarks(setting: Setting, methods: Sequence[str], metric: str) -> Iterator[str]:
    without = []
    for method in methods:
        others = [table for table in _tables(method, setting) if table.metric != metric]
        if not _tables(method, setting):
            without.append(method_title(method))
        elif not _tables(method, setting, metric):
            where = ", ".join(f"{table.metric} ({table.source})" for table in others)
            yield f"{method_title(method)} is published with another metric, not to be compared with {metric}: {where}."
    if without:
        yield f"None of the five papers has figures of {', '.join(without)} on this dataset."
