"""Runs that differ in nothing but the seed, and their figures' mean and spread."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from xmr_e2e.evaluation.result import TrainingCost
from xmr_e2e.studies.runs import Measurement

Identity: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""a recipe, and its options by name"""


class Statistic(NamedTuple):
    """A figure over seeds."""

    mean: float
    deviation: float | None
    """the sample's standard deviation (divided by n - 1); None for one seed"""
    seeds: int


@dataclass(frozen=True)
class Group:
    """Measurements in one setting of runs that differ in nothing but the seed."""

    label: str
    """the recipe, and the options in which its groups differ"""
    measurements: tuple[Measurement, ...]

    @property
    def first(self) -> Measurement:
        return self.measurements[0]

    @property
    def by_seed(self) -> Mapping[int, Sequence[Measurement]]:
        found: dict[int, list[Measurement]] = defaultdict(list)
        for each in self.measurements:
            found[each.seed].append(each)
        return found

    def statistic(self, direction: str, metric: str) -> Statistic | None:
        """Mean and spread of the seeds' figures; a seed that was run several times counts once, with its mean.

        direction: or "average", or a mixed pool. None where a run does not have the figure.
        """
        values = []
        for measurements in self.by_seed.values():
            scores = [each.scores.get(direction, {}) for each in measurements]
            if not all(metric in each for each in scores):
                return None
            values.append(statistics.fmean(each[metric] for each in scores))
        return Statistic(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def minutes(self) -> float | None:
        """Of a training, mean over the runs that say so."""
        return statistics.fmean(cost.seconds for cost in self._costs) / 60 if self._costs else None

    @property
    def peak_memory(self) -> int | None:
        """Bytes, of the largest run."""
        return max((cost.peak_memory for cost in self._costs), default=None)

    @property
    def _costs(self) -> list[TrainingCost]:
        return [each.training for each in self.measurements if each.training]


def group_runs(measurements: Iterable[Measurement]) -> list[Group]:
    """The groups in the order of their labels."""
    found: dict[Any, list[Measurement]] = defaultdict(list)
    for each in measurements:
        found[_identity(each), each.setting, each.is_of_own_shards, each.shards].append(each)
    labels = _labels({identity: members[0].options for (identity, *_), members in found.items()})
    of_setting = Counter((setting, labels[identity]) for identity, setting, *_ in found)
    groups = []
    for (identity, setting, _, shards), members in found.items():
        label = labels[identity]
        is_alone = of_setting[setting, label] == 1
        groups.append(Group(label if is_alone else f"{label}, trained on shards {shards}", tuple(members)))
    return sorted(groups, key=lambda group: group.label)


def _identity(measurement: Measurement) -> Identity:
    return measurement.recipe, tuple(sorted((name, repr(value)) for name, value in measurement.options.items()))


def _labels(groups: Mapping[Identity, Mapping[str, Any]]) -> dict[Identity, str]:
    """The shortest that tell the groups of a recipe apart."""
    labels: dict[Identity, str] = {}
    for recipe in {recipe for recipe, _ in groups}:
        own = {identity: options for identity, options in groups.items() if identity[0] == recipe}
        everywhere = set.intersection(*(set(options) for options in own.values()))
        short = {identity: _label(recipe, own[identity], _differing(own.values(), everywhere)) for identity in own}
        if len(set(short.values())) < len(own):  # versions of this library that have other options
            every = {name for options in own.values() for name in options}
            short = {identity: _label(recipe, own[identity], _differing(own.values(), every)) for identity in own}
        labels |= short
    return labels


def _differing(groups: Iterable[Mapping[str, Any]], names: set[str]) -> list[str]:
    groups = list(groups)
    return sorted(name for name in names if len({repr(options.get(name)) for options in groups}) > 1)


def _label(recipe: str, options: Mapping[str, Any], names: Sequence[str]) -> str:
    shown = ", ".join(f"{name}={options[name]}" for name in names if name in options)
    return f"{recipe} ({shown})" if shown else recipe
