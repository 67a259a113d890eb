"""The table of a study, as Markdown, as CSV and as LaTeX: the best of each column bold, the second underlined."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from xmr_e2e.escape import csv_cell
from xmr_e2e.evaluation.figures import direction_title
from xmr_e2e.studies.compare import Cell
from xmr_e2e.studies.layout import Footnotes, Format, Page, Text, as_latex, as_markdown
from xmr_e2e.studies.marks import split_sizes
from xmr_e2e.studies.render import figure, training_cost
from xmr_e2e.studies.results import Difference, RecipeResult, RowResult, StudyResult

P_OF = (
    "Δ: difference of the average from the first row's, over the seeds that both have; p: of a two-sided paired t-test "
    "over these seeds, not corrected for the number of rows. Bold: the best of a column; underlined: the second. "
    "Minutes: of training, mean over the seeds; GB: memory of its main process, the largest run's."
)
CSV_COLUMNS = (
    *("study", "recipe", "dataset", "split", "protocol", "metric", "row", "options", "direction", "value", "deviation"),
    *("published", "seeds", "difference", "p", "minutes", "peak_memory", "missing_seeds", "notes"),
)


def render_study(result: StudyResult, form: Format) -> str:
    """The tables of all recipes as one text."""
    if form == "csv":
        return _csv(result)
    pages = [_lay_out(result, recipe) for recipe in result.recipes if recipe.setting]
    return as_latex(pages) if form == "latex" else as_markdown(pages, [P_OF])


def table_of(recipe: RecipeResult) -> list[list[Text]]:
    """The lines of a recipe's table, heading first; without notes."""
    return _lines(recipe, lambda marks: ())


def _lay_out(result: StudyResult, recipe: RecipeResult) -> Page:
    footnotes = Footnotes()
    setting = recipe.setting
    assert setting, "only what was measured is laid out"
    return Page(
        title=f"{result.study.title}: {setting.dataset}, {recipe.metric}",
        setting=f"Recipe {recipe.recipe}, measured on {setting.split}, protocol {setting.protocol}. Samples "
        f"(train/val/test): {split_sizes(setting.sizes)}.",
        lines=tuple(map(tuple, _lines(recipe, footnotes.numbers))),
        words=1,
        notes=tuple(footnotes.notes),
        remarks=tuple(remarks(recipe)),
    )


def remarks(recipe: RecipeResult) -> Iterator[str]:
    """The source of what is published, and what is missing, in sentences."""
    sources = dict.fromkeys(each.source for row in recipe.rows for each in recipe.published(row))
    if sources:
        yield f"Published: {'; '.join(sources)}."
    for row in recipe.rows:
        if row.missing:
            seeds = ", ".join(map(str, row.missing))
            yield f"{row.name}: seed{'s' if len(row.missing) > 1 else ''} {seeds} not measured yet."


def _lines(recipe: RecipeResult, numbers: Callable[[Sequence[str]], tuple[int, ...]]) -> list[list[Text]]:
    directions = recipe.directions
    titles = [name if name == "average" else direction_title(name) for name in directions]
    return [
        [Text(each) for each in ("", *titles, "Δ", "p", "seeds", "minutes", "GB")],
        *chain.from_iterable(_of_row(recipe, row, numbers) for row in recipe.rows),
    ]


def _of_row(
    recipe: RecipeResult, row: RowResult, numbers: Callable[[Sequence[str]], tuple[int, ...]]
) -> Iterator[list[Text]]:
    """The row's line, and those with what the paper prints for it."""
    yield _line(recipe, row, recipe.directions, numbers(row.marks))
    for published in recipe.published(row):
        cells = [published.cells.get(direction, Cell("–")) for direction in recipe.directions]
        figures = [Text(figure(cell.value), numbers(cell.marks)) for cell in cells]
        yield [Text(published.name, numbers(published.marks)), *figures, *[Text("")] * 5]


def _line(recipe: RecipeResult, row: RowResult, directions: Sequence[str], notes: tuple[int, ...]) -> list[Text]:
    cells = [Text(row.name, notes)]
    for direction in directions:
        own = row.statistic(direction, recipe.metric)
        cells.append(Text(figure(own) if own else "–", (), recipe.rank(row, direction)))
    cells += [Text(text) for text in _compared(recipe.compare(row))]
    return [*cells, Text(str(row.seeds or "")), *training_cost(row)]


def _compared(found: Difference | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    p = "" if found.p is None else "< .001" if found.p < 0.001 else f"{found.p:.3f}"
    return f"{found.difference:+.4f}", p


def _csv(result: StudyResult) -> str:
    """A line for each figure, with all of its digits; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for recipe in result.recipes:
        for row in recipe.rows:
            for direction in recipe.directions:
                writer.writerow(map(csv_cell, _csv_line(result, recipe, row, direction)))
    return stream.getvalue()


def _csv_line(result: StudyResult, recipe: RecipeResult, row: RowResult, direction: str) -> Sequence[object]:
    setting, own = recipe.setting, row.statistic(direction, recipe.metric)
    assert setting, "there are directions"
    options = "; ".join(f"{name} = {value}" for name, value in row.row.variant.fields.items())
    compared = recipe.compare(row, direction)
    printed = [str(each.cells[direction].value) for each in recipe.published(row) if direction in each.cells]
    return (
        *(result.study.name, recipe.recipe, setting.dataset, setting.split, setting.protocol, recipe.metric),
        *(row.name, options, direction, own and own.mean, own and own.deviation),
        *("; ".join(printed), row.seeds),
        *(compared and compared.difference, compared and compared.p, row.minutes, row.peak_memory),
        *(" ".join(map(str, row.missing)), "; ".join(row.marks)),
    )
