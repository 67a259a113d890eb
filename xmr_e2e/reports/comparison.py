"""Several runs side by side, as one HTML file that opens anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal, TypeAlias

from xmr_e2e.evaluation.figures import Directions, RetrievalMetrics, direction_title
from xmr_e2e.evaluation.protocol import ProtocolRecord
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.reports.examples import Example
from xmr_e2e.reports.page import flattened, number, write_page
from xmr_e2e.reports.plots import SCOPE, Points, overlaid_plot, validation_series
from xmr_e2e.reports.report import CAUTIONS, MAIN, RANKS, SUMS, Section, main_score

Side: TypeAlias = Literal["model", "random"]
CORRELATION = "Pearson"
"""never marked as best: it is highest in a space that has collapsed to a point"""
AVERAGE = "average of the directions"


@dataclass(frozen=True)
class ComparedRun:
    """A run and one of its evaluations."""

    name: str
    """of the recipe; on the page, with that of the folder where runs of one recipe are compared"""
    folder: Path
    result: EvaluationResult
    """a complete one"""
    records: Sequence[Mapping[str, Any]]
    """the lines of metrics.jsonl"""
    environment: Mapping[str, Any]
    configuration: Mapping[str, Any]

    @property
    def protocol(self) -> ProtocolRecord:
        return self.result.require_protocol()

    @property
    def definitions(self) -> Mapping[str, str]:
        return self.result.metrics.definitions

    @property
    def is_cautioned(self) -> bool:
        """True where the epoch was not selected on validation."""
        return self.protocol.selected_on in CAUTIONS

    def scores(self, direction: str, side: Side) -> Mapping[str, float]:
        """The figures of a direction, or of the average."""
        directions = self.directions(side)
        return directions.average if direction == AVERAGE else directions.rows[direction].scores

    def directions(self, side: Side) -> Directions:
        metrics = self.result.metrics
        return metrics.model if side == "model" else metrics.random


@dataclass(frozen=True)
class SharedQueries(Section):
    """Queries of one direction with what each run ranks first for them."""

    examples: Sequence[tuple[Example, ...]]
    """of each query one for each run, in the runs' order"""
    is_labeled: bool

    @property
    def shown(self) -> Iterator[Example]:
        yield from chain.from_iterable(self.examples)


@dataclass(frozen=True)
class _Cell:
    model: str
    random: str
    is_best: bool


@dataclass(frozen=True)
class _Table:
    """The figures of one direction: a row for each run."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[_Cell]]]


def write_comparison(path: Path, runs: Sequence[ComparedRun], sections: Sequence[SharedQueries] = ()) -> None:
    """Write the page that compares two runs or more, at most 26; they are named A, B, … in their order.

    Args:
        sections: the same queries under each run.
    """
    named = dict(zip(ascii_uppercase, _told_apart(runs)))
    conflicts = [*_conflicts(named)]
    mains = {main_score(run.directions("model")) for run in runs}
    main = mains.pop() if len(mains) == 1 else MAIN
    directions = [name for name in runs[0].result.metrics.model.rows if all(_has(run, name) for run in runs)]
    write_page(
        path,
        "comparison.html",
        runs=named,
        conflicts=conflicts,
        tables=[_table(named, direction, not conflicts) for direction in (AVERAGE, *directions)],
        main=main,
        ranks=RANKS,
        sums=SUMS,
        correlation=CORRELATION,
        curves={direction_title(name): curves for name in directions if (curves := _curves(named, name))},
        validation=_validation(named, main),
        sections=sections,
        plays_sound=any(section.plays_sound for section in sections),
        configuration=_differences(named, lambda run: run.configuration),
        environment=_differences(named, lambda run: run.environment),
    )


def _told_apart(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Runs of one recipe have the names of their folders, too, as far as these tell them apart."""
    counts = Counter(run.name for run in runs)
    named = []
    for run in runs:
        alike = [other.folder.resolve() for other in runs if other.name == run.name]
        own = run.folder.resolve()
        depths = range(1, len(own.parts) + 1)
        depth = next((d for d in depths if sum(each.parts[-d:] == own.parts[-d:] for each in alike) == 1), 1)
        words = "/".join(own.parts[-depth:])
        named.append(replace(run, name=f"{run.name}, {words}") if counts[run.name] > 1 else run)
    return named


def _conflicts(runs: Mapping[str, ComparedRun]) -> Iterator[str]:
    """In sentences, why the figures of the runs cannot be compared."""
    facts: dict[str, Callable[[ComparedRun], Any]] = {
        "datasets": lambda run: run.result.dataset,
        "splits": lambda run: run.result.split,
        "protocols": lambda run: run.protocol.name,
        "galleries": lambda run: run.protocol.gallery,
        "selections of the epoch": lambda run: f"on {run.protocol.selected_on}",
        "numbers of queries and items": _sizes,
    }
    for fact, value in facts.items():
        found = {name: value(run) for name, run in runs.items()}
        if len(set(found.values())) > 1:
            yield f"Different {fact}: {'; '.join(f'{name}: {each}' for name, each in found.items())}."
    for name in dict.fromkeys(key for run in runs.values() for key in run.definitions):
        definitions = {run.definitions.get(name) for run in runs.values()}
        definitions.discard(None)  # of what an earlier version did not measure
        if len(definitions) > 1 and name != "similarity":  # a method's own, as much as its network
            yield f"{name} is defined differently: {'; '.join(map(str, sorted(map(str, definitions))))}."


def _sizes(run: ComparedRun) -> str:
    rows = run.result.metrics.model.directions.items()
    return ", ".join(f"{direction_title(name)} {row.queries:,} in {row.gallery:,}" for name, row in rows)


def _has(run: ComparedRun, direction: str) -> bool:
    return direction in run.result.metrics.model.rows


def _table(runs: Mapping[str, ComparedRun], direction: str, is_fair: bool) -> _Table:
    """is_fair: the best of each column is marked."""
    scores = {name: (run.scores(direction, "model"), run.scores(direction, "random")) for name, run in runs.items()}
    columns = [*dict.fromkeys(column for model, _ in scores.values() for column in model)]
    best = {}
    for column in columns:
        values = [model[column] for model, _ in scores.values() if column in model]
        if column != CORRELATION:
            best[column] = min(values) if column in RANKS else max(values)
    rows = [
        (name, [_cell(model.get(each), random.get(each), best.get(each) if is_fair else None) for each in columns])
        for name, (model, random) in scores.items()
    ]
    return _Table(direction if direction == AVERAGE else direction_title(direction), columns, rows)


def _cell(model: float | None, random: float | None, best: float | None) -> _Cell:
    if model is None:
        return _Cell("–", "", False)
    return _Cell(number(model), "" if random is None else number(random), model == best)


def _curves(runs: Mapping[str, ComparedRun], direction: str) -> list[tuple[str, bytes]]:
    """Of one direction: what it shows, and the picture; of runs that were measured by labels, if there are any."""
    runs = {name: run for name, run in runs.items() if run.directions("model").rows[direction].is_labeled}
    if not runs:
        return []
    return [
        (
            f"Precision over {xlabel}, {direction_title(direction)}",
            overlaid_plot(
                {name: points(run.directions("model").rows[direction]) for name, run in runs.items()},
                points(next(iter(runs.values())).directions("random").rows[direction]),
                xlabel=xlabel,
                ylabel="precision",
            ),
        )
        for xlabel, points in (("recall", _recall_points), (SCOPE, _scope_points))
    ]


def _recall_points(metrics: RetrievalMetrics) -> Points:
    return metrics.curve.recall, metrics.curve.precision


def _scope_points(metrics: RetrievalMetrics) -> Points:
    return metrics.scope.k, metrics.scope.precision


def _validation(runs: Mapping[str, ComparedRun], main: str) -> bytes | None:
    series = {name: validation_series(run.records, f"average {main}") for name, run in runs.items()}
    lines = {name: tuple(zip(*points)) for name, points in series.items() if points}
    return overlaid_plot(lines, None, xlabel="step", ylabel=f"validation, {main}") if lines else None  # type: ignore[arg-type]


def _differences(
    runs: Mapping[str, ComparedRun], part: Callable[[ComparedRun], Mapping[str, Any]]
) -> list[tuple[str, list[str]]]:
    """Dotted names that do not have the same value in all runs, with the value of each."""
    flat = [dict(flattened(part(run))) for run in runs.values()]
    names = dict.fromkeys(name for each in flat for name in each)
    rows = [(name, [each.get(name, "–") for each in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
