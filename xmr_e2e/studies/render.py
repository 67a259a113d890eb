"""Comparisons as Markdown, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Protocol

from xmr_e2e.escape import csv_cell
from xmr_e2e.evaluation.figures import direction_title
from xmr_e2e.studies.compare import Cell, Comparison, ComparisonRow
from xmr_e2e.studies.groups import Statistic
from xmr_e2e.studies.layout import Footnotes, Format, Page, Text, as_latex, as_markdown
from xmr_e2e.studies.marks import split_sizes
from xmr_e2e.studies.runs import SPLITS

DEPARTURES = "How each method here departs from its paper: docs/reproduction.md."
WIDE = 3
"""columns of directions; where there are more, they are the lines"""
DIGITS = 4
CSV_COLUMNS = (
    *("dataset", *SPLITS, "split", "protocol", "gallery", "metric", "direction"),
    *("kind", "method", "source", "value", "deviation", "seeds", "minutes", "peak_memory", "notes"),
)


class HasCost(Protocol):
    """A row of a table that may know what its trainings took."""

    @property
    def minutes(self) -> float | None: ...

    @property
    def peak_memory(self) -> int | None: ...


def render(comparisons: Sequence[Comparison], form: Format) -> str:
    """The comparisons as one text."""
    if form == "csv":
        return _csv(comparisons)
    pages = [_lay_out(comparison) for comparison in comparisons]
    if form == "latex":
        return as_latex(pages)
    published = any(row.kind == "published" for comparison in comparisons for row in comparison.rows)
    return as_markdown(pages, [DEPARTURES] if published else [])


def _lay_out(comparison: Comparison) -> Page:
    footnotes = Footnotes()
    costs = ("minutes", "GB") if any(row.minutes is not None for row in comparison.rows) else ()
    lines = [tuple(map(Text, ("method", "from", *map(_direction, comparison.directions), "seeds", *costs)))]
    lines += [
        (*_line(row, comparison.directions, footnotes.numbers), *(costs and training_cost(row)))
        for row in comparison.rows
    ]
    is_wide = len(comparison.directions) > WIDE
    setting = comparison.setting
    unknown = "; ? as the training's shards are not at hand" if None in setting.sizes else ""
    gallery = ", training split in the gallery, too" if setting.with_train else ""
    return Page(
        title=f"{setting.dataset}, {comparison.metric}",
        setting=f"Measured on {setting.split}, protocol {setting.protocol}{gallery}. "
        f"Samples (train/val/test): {split_sizes(setting.sizes)}{unknown}.",
        lines=tuple(zip(*lines)) if is_wide else tuple(lines),
        words=1 if is_wide else 2,
        notes=tuple(footnotes.notes),
        remarks=comparison.remarks,
    )


def _line(
    row: ComparisonRow, directions: Sequence[str], numbers: Callable[[Sequence[str]], tuple[int, ...]]
) -> tuple[Text, ...]:
    source = f"published: {row.source}" if row.kind == "published" else row.source
    head = (Text(row.method), Text(source, numbers(row.marks)))
    cells = [row.cells.get(direction, Cell("–")) for direction in directions]
    figures = [Text(figure(cell.value), numbers(cell.marks)) for cell in cells]
    return (*head, *figures, Text(str(row.seeds or "")))


def figure(value: Statistic | str) -> str:
    """A mean with its deviation, or as published."""
    if isinstance(value, str):
        return value
    spread = "" if value.deviation is None else f" ± {value.deviation:.{DIGITS}f}"
    return f"{value.mean:.{DIGITS}f}{spread}"


def training_cost(row: HasCost) -> tuple[Text, Text]:
    """Minutes of a training and gigabytes of memory, empty where they are not known."""
    minutes = "" if row.minutes is None else f"{row.minutes:.1f}"
    return Text(minutes), Text("" if row.peak_memory is None else f"{row.peak_memory / 1e9:.1f}")


def _direction(name: str) -> str:
    return name if name == "average" else direction_title(name)


def _csv(comparisons: Sequence[Comparison]) -> str:
    """A line for each figure, with all of its digits; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        setting = comparison.setting
        gallery = "test+train" if setting.with_train else setting.split
        place = (setting.dataset, *setting.sizes, setting.split, setting.protocol, gallery, comparison.metric)
        for row in comparison.rows:
            for direction, cell in row.cells.items():
                value, deviation = (cell.value, None) if isinstance(cell.value, str) else cell.value[:2]
                notes = "; ".join((*row.marks, *cell.marks))
                figures = (value, deviation, row.seeds, row.minutes, row.peak_memory)
                writer.writerow(map(csv_cell, (*place, direction, row.kind, row.method, row.source, *figures, notes)))
    return stream.getvalue()
