"""The results of a study: what its runs measured, row after row, beside the recipe as it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Literal, TypeAlias

from xmr_e2e.errors import XmrError
from xmr_e2e.reports.plots import validation_series
from xmr_e2e.runs.run import Run
from xmr_e2e.studies.groups import Group, Statistic
from xmr_e2e.studies.marks import marks_of_group
from xmr_e2e.studies.plan import Plan, PlannedRun
from xmr_e2e.studies.published import PublishedTable
from xmr_e2e.studies.runs import Measurement, Setting
from xmr_e2e.studies.study import Row, Study
from xmr_e2e.studies.study_published import PublishedRow, named_tables, published_rows, tables_beside

Rank: TypeAlias = Literal["", "best", "second"]
LOWER_IS_BETTER = ("MedR", "MeanR")
"""ranks"""


@dataclass(frozen=True)
class Difference:
    """A row beside the recipe as it stands, over the seeds that both have."""

    difference: float
    p: float | None
    """of a two-sided paired t-test; None for fewer than two seeds, or where all differences are equal"""
    seeds: int


@dataclass(frozen=True)
class RowResult:
    """A row's measurements."""

    row: Row
    group: Group | None
    """its measured runs; None where there are none"""
    missing: tuple[int, ...]
    """seeds that are not measured yet"""
    validation: Mapping[int, Sequence[tuple[float, float]]]
    """seed -> (step, figure on the validation split)"""

    @property
    def name(self) -> str:
        return self.row.variant.name

    @property
    def seeds(self) -> int:
        return len(self.group.by_seed) if self.group else 0

    def statistic(self, direction: str, metric: str) -> Statistic | None:
        """A figure over seeds; None where nothing is measured."""
        return self.group.statistic(direction, metric) if self.group else None

    def values(self, direction: str, metric: str) -> dict[int, float]:
        """The figures by seed."""
        by_seed = self.group.by_seed if self.group else {}
        scores = {seed: [each.scores.get(direction, {}) for each in found] for seed, found in by_seed.items()}
        return {
            seed: fmean(each[metric] for each in own)
            for seed, own in scores.items()
            if all(metric in each for each in own)
        }

    @property
    def marks(self) -> tuple[str, ...]:
        """Reasons for caution, in sentences."""
        return tuple(marks_of_group(self.group)) if self.group else ()

    @property
    def minutes(self) -> float | None:
        """Of a training, mean over the seeds."""
        return self.group.minutes if self.group else None

    @property
    def peak_memory(self) -> int | None:
        """Bytes, of the largest run."""
        return self.group.peak_memory if self.group else None


@dataclass(frozen=True)
class RecipeResult:
    """The rows of one recipe, the one of the recipe as it stands first."""

    recipe: str
    metric: str
    rows: tuple[RowResult, ...]
    paper: str = ""
    """what is published beside it, as `Study.published` names it"""

    @property
    def reference(self) -> RowResult:
        return self.rows[0]

    @cached_property
    def setting(self) -> Setting | None:
        """The data and protocol of the measurements; None where there are none."""
        return next((row.group.first.setting for row in self.rows if row.group), None)

    @cached_property
    def directions(self) -> tuple[str, ...]:
        """The directions that were measured, "average", and the mixed pools."""
        first = next((row.group.first for row in self.rows if row.group), None)
        return tuple(name for name in first.scores if self.metric in first.scores[name]) if first else ()

    @cached_property
    def _tables(self) -> tuple[PublishedTable, ...]:
        return tables_beside(self.paper, self.setting, self.metric) if self.paper and self.setting else ()

    def published(self, row: RowResult) -> list[PublishedRow]:
        """The figures that the paper prints for a row on this dataset."""
        return published_rows(self._tables, row.name, self.directions, row.group)

    def rank(self, row: RowResult, direction: str) -> Rank:
        """The best row of a column and the second; those that are equal share a place."""
        found = {own.mean for each in self.rows if (own := each.statistic(direction, self.metric))}
        own = row.statistic(direction, self.metric)
        if own is None or len(found) < 2:
            return ""
        order = sorted(found, reverse=self.metric not in LOWER_IS_BETTER)
        return "best" if own.mean == order[0] else "second" if own.mean == order[1] else ""

    def compare(self, row: RowResult, direction: str = "average") -> Difference | None:
        """A row and the recipe as it stands, seed by seed; None for that row itself, and without a common seed."""
        if row is self.reference:
            return None
        own, base = row.values(direction, self.metric), self.reference.values(direction, self.metric)
        seeds = sorted(own.keys() & base.keys())
        if not seeds:
            return None
        differences = [own[seed] - base[seed] for seed in seeds]
        return Difference(fmean(differences), _paired_p(differences), len(seeds))


@dataclass(frozen=True)
class StudyResult:
    """A study and what there is of it."""

    study: Study
    plan: Plan
    recipes: tuple[RecipeResult, ...]


def read_results(plan: Plan) -> StudyResult:
    """Read the measured runs of a plan.

    Raises:
        XmrError: a run cannot be understood, no run has the study's metric, or there is no such published table.
    """
    study = plan.study
    if study.published:
        named_tables(study.published)
    found = []
    for recipe in study.recipes:
        rows = [_read_row(plan, row) for row in study.rows if row.recipe == recipe.name]
        found.append(RecipeResult(recipe.name, study.metric, tuple(rows), study.published))
    for result in found:
        if result.setting and not result.directions:
            first = next(row.group.first for row in result.rows if row.group)
            there = ", ".join(sorted({metric for scores in first.scores.values() for metric in scores}))
            raise XmrError(f"study {study.title!r}: no run of {result.recipe} has its metric {study.metric}; there are "
                           f"{there}")  # fmt: skip
    return StudyResult(study, plan, tuple(found))


def _read_row(plan: Plan, row: Row) -> RowResult:
    runs = plan.of_row(row)
    measured = [run for run in runs if run.state == "measured"]
    found = [each for run in measured if (each := measurement(run))]
    records = {run.seed: Run(run.folder).records() for run in measured}
    series = {seed: validation_series(own, f"average {plan.study.metric}") for seed, own in records.items()}
    return RowResult(
        row=row,
        group=Group(row.variant.name, tuple(found)) if found else None,
        missing=tuple(run.seed for run in runs if run.state != "measured"),
        validation={seed: points for seed, points in series.items() if points},
    )


def measurement(run: PlannedRun) -> Measurement | None:
    """A run's measurement of its own shards by its own protocol: the test split, or the validation split where there is
    no test."""
    protocol = run.row.experiment.train.rules.name
    own = [each for each in run.measurements if not each.setting.with_train]
    by_protocol = [each for each in own if each.setting.protocol == protocol] or own
    return min(by_protocol, key=lambda each: ("test", "val", "train").index(each.setting.split), default=None)


def _paired_p(differences: Sequence[float]) -> float | None:
    """Student's paired t-test, two-sided. None where there is no spread to judge by."""
    from scipy import stats

    if len(differences) < 2 or len(set(differences)) == 1:
        return None
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return None if math.isnan(p) else p
