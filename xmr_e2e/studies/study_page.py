"""The page of a study: tables, error bars, swept fields, convergence, what is missing; one file that opens anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from xmr_e2e.evaluation.figures import direction_title
from xmr_e2e.reports.page import write_page
from xmr_e2e.reports.study_plots import MOST_CURVES, Estimate, convergence_plot, rows_plot, sweep_plot
from xmr_e2e.studies.groups import Statistic
from xmr_e2e.studies.layout import Text
from xmr_e2e.studies.plan import PlannedRun
from xmr_e2e.studies.results import RecipeResult, RowResult, StudyResult
from xmr_e2e.studies.study import Sweep
from xmr_e2e.studies.study_table import P_OF, remarks, table_of


@dataclass(frozen=True)
class _Section:
    """A recipe's part of the page."""

    title: str
    heading: Sequence[Text]
    lines: Sequence[Sequence[Text]]
    notes: Sequence[str]
    remarks: Sequence[str]
    plots: Sequence[tuple[str, bytes]]
    """what a plot shows, and the SVG"""


def write_study_page(path: Path, result: StudyResult) -> None:
    """Write the page."""
    measured = [recipe for recipe in result.recipes if recipe.setting]
    write_page(
        path,
        "study.html",
        title=result.study.title,
        metric=result.study.metric,
        sections=[_section(recipe, result.study.sweeps) for recipe in measured],
        rows=[(row.key, _options(row.variant.fields)) for row in result.study.rows],
        to_do=[(str(run), _state(run)) for run in result.plan.runs if run.state != "measured"],
        counts=(result.plan.count("measured"), len(result.plan.runs)),
        explained=P_OF,
    )


def _state(run: PlannedRun) -> str:
    return {"begun": "begun, not measured", "new": "not begun", "running": "being trained"}.get(run.state, run.state)


def _options(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "none"


def _section(recipe: RecipeResult, sweeps: Sequence[Sweep]) -> _Section:
    setting = recipe.setting
    assert setting, "only what was measured has a section"
    heading, *lines = table_of(recipe)
    return _Section(
        title=f"{setting.dataset}, {recipe.metric} on {setting.split}, protocol {setting.protocol}",
        heading=heading,
        lines=lines,
        notes=[*_notes(recipe)],
        remarks=list(remarks(recipe)),
        plots=[*_plots(recipe, sweeps)],
    )


def _notes(recipe: RecipeResult) -> Iterator[str]:
    """Doubts about rows; those about what the paper prints, which are the same for many rows, each once."""
    yield from (f"{row.name}: {mark}" for row in recipe.rows for mark in row.marks)
    published = [(row.name, each) for row in recipe.rows for each in recipe.published(row)]
    yield from dict.fromkeys(f"published: {mark}" for _, each in published for mark in each.marks)
    for name, each in published:
        yield from (f"{name}, published: {mark}" for cell in each.cells.values() for mark in cell.marks)


def _plots(recipe: RecipeResult, sweeps: Sequence[Sweep]) -> Iterator[tuple[str, bytes]]:
    swept = {variant.name for sweep in sweeps for variant in sweep.variants()}
    rows = {row.name: own for row in recipe.rows if row.name not in swept and (own := _estimate(recipe, row))}
    if len(rows) > 1:
        label = f"{recipe.metric}, average of the directions"
        picture = rows_plot(rows, reference=recipe.reference.name, xlabel=label, random=_random(recipe))
        yield "Rows, with one deviation over the seeds", picture
    for sweep in sweeps:
        if curves := _curves(recipe, sweep):
            yield (
                f"{recipe.metric} over {sweep.title}, with one deviation over the seeds",
                sweep_plot(
                    curves,
                    xlabel=sweep.title,
                    ylabel=recipe.metric,
                    is_logarithmic=sweep.is_logarithmic,
                    recipe_value=_recipe_value(recipe, sweep),
                ),
            )
    validated = {row.name: list(row.validation.values()) for row in recipe.rows if row.validation}
    for first in range(0, len(validated), MOST_CURVES):
        part = dict(list(validated.items())[first : first + MOST_CURVES])
        ylabel = f"validation, average {recipe.metric}"
        yield (
            "Validation in training: mean over the seeds, and from the lowest to the highest",
            convergence_plot(part, ylabel=ylabel),
        )


def _estimate(recipe: RecipeResult, row: RowResult, direction: str = "average") -> Estimate | None:
    own = row.statistic(direction, recipe.metric)
    return _with_deviation(own) if own else None


def _with_deviation(own: Statistic) -> Estimate:
    return Estimate(own.mean, own.deviation or 0.0)


def _random(recipe: RecipeResult) -> float | None:
    runs = [each for row in recipe.rows if row.group for each in row.group.measurements]
    values = [run.random["average"][recipe.metric] for run in runs if recipe.metric in run.random.get("average", {})]
    return fmean(values) if values else None


def _curves(recipe: RecipeResult, sweep: Sweep) -> dict[str, list[tuple[float, Estimate]]]:
    """Direction -> the points that are measured."""
    by_name = {row.name: row for row in recipe.rows}
    points = [(value, by_name[variant.name]) for value, variant in zip(sweep.values, sweep.variants())]
    curves = {}
    for direction in recipe.directions:
        own = [(value, found) for value, row in points if (found := _estimate(recipe, row, direction))]
        if own:
            curves[direction if direction == "average" else direction_title(direction)] = own
    return curves


def _recipe_value(recipe: RecipeResult, sweep: Sweep) -> float | None:
    value = recipe.reference.row.options.get(sweep.field)
    return float(value) if isinstance(value, int | float) else None
