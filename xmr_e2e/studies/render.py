"""Comparisons as Markdown, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xmr_e2e.escape import csv_cell, latex, markdown
from xmr_e2e.evaluation.directions import direction_title
from xmr_e2e.studies.compare import Cell, Comparison, Row
from xmr_e2e.studies.groups import Statistic
from xmr_e2e.studies.marks import split_sizes
from xmr_e2e.studies.runs import SPLITS

Format: TypeAlias = Literal["markdown", "csv", "latex"]
DEPARTURES = "How each method here departs from its paper: docs/reproduction.md."
WIDE = 3
"""columns of directions; where there are more, they are the lines"""
DIGITS = 4
CSV_COLUMNS = (
    *("dataset", *SPLITS, "split", "protocol", "gallery", "metric", "direction"),
    *("kind", "method", "source", "value", "deviation", "seeds", "notes"),
)


@dataclass(frozen=True)
class _Text:
    """A cell of a printed table, and the numbers of its footnotes."""

    text: str
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Page:
    """A comparison laid out for people."""

    title: str
    setting: str
    lines: tuple[tuple[_Text, ...], ...]
    """the first is the heading"""
    words: int
    """columns of words; the others are of figures"""
    notes: tuple[str, ...]
    """number 1 first"""
    remarks: tuple[str, ...]


def render(comparisons: Sequence[Comparison], form: Format) -> str:
    """The comparisons as one text."""
    if form == "csv":
        return _csv(comparisons)
    pages = [_lay_out(comparison) for comparison in comparisons]
    if form == "latex":
        return _latex(pages)
    published = any(row.kind == "published" for comparison in comparisons for row in comparison.rows)
    return _markdown(pages, [DEPARTURES] if published else [])


def _lay_out(comparison: Comparison) -> _Page:
    notes: list[str] = []

    def numbers(marks: Sequence[str]) -> tuple[int, ...]:
        notes.extend(mark for mark in dict.fromkeys(marks) if mark not in notes)
        return tuple(sorted(notes.index(mark) + 1 for mark in set(marks)))

    lines = [tuple(map(_Text, ("method", "from", *map(_direction, comparison.directions), "seeds")))]
    lines += [_line(row, comparison.directions, numbers) for row in comparison.rows]
    is_wide = len(comparison.directions) > WIDE
    setting = comparison.setting
    unknown = "; ? as the training's shards are not at hand" if None in setting.sizes else ""
    gallery = ", training split in the gallery, too" if setting.with_train else ""
    return _Page(
        title=f"{setting.dataset}, {comparison.metric}",
        setting=f"Measured on {setting.split}, protocol {setting.protocol}{gallery}. "
        f"Samples (train/val/test): {split_sizes(setting.sizes)}{unknown}.",
        lines=tuple(zip(*lines)) if is_wide else tuple(lines),
        words=1 if is_wide else 2,
        notes=tuple(notes),
        remarks=comparison.remarks,
    )


def _line(
    row: Row, directions: Sequence[str], numbers: Callable[[Sequence[str]], tuple[int, ...]]
) -> tuple[_Text, ...]:
    source = f"published: {row.source}" if row.kind == "published" else row.source
    head = (_Text(row.method), _Text(source, numbers(row.marks)))
    cells = [row.cells.get(direction, Cell("–")) for direction in directions]
    figures = [_Text(_figure(cell.value), numbers(cell.marks)) for cell in cells]
    return (*head, *figures, _Text(str(row.seeds or "")))


def _figure(value: Statistic | str) -> str:
    if isinstance(value, str):
        return value
    spread = "" if value.deviation is None else f" ± {value.deviation:.{DIGITS}f}"
    return f"{value.mean:.{DIGITS}f}{spread}"


def _direction(name: str) -> str:
    return name if name == "average" else direction_title(name)


def _markdown(pages: Sequence[_Page], closing: Sequence[str]) -> str:
    blocks = []
    for page in pages:
        blocks += [f"## {markdown(page.title)}", markdown(page.setting), "\n".join(_markdown_table(page))]
        blocks += ["\n".join(f"- [{number}] {markdown(note)}" for number, note in enumerate(page.notes, start=1))]
        blocks += map(markdown, page.remarks)
    return "\n\n".join(block for block in (*blocks, *closing) if block) + "\n"


def _markdown_table(page: _Page) -> Iterator[str]:
    """The columns stand below each other in a terminal, too."""
    lines = [[_markdown_cell(cell) for cell in line] for line in page.lines]
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    rule = ["-" * width if place < page.words else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    for line in (lines[0], rule, *lines[1:]):
        words = [text.ljust(width) for text, width in zip(line, widths[: page.words])]
        figures = [text.rjust(width) for text, width in zip(line[page.words :], widths[page.words :])]
        yield f"| {' | '.join(words + figures)} |"


def _markdown_cell(cell: _Text) -> str:
    notes = f" [{', '.join(map(str, cell.notes))}]" if cell.notes else ""
    return markdown(cell.text) + notes


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
                cells = (*place, direction, row.kind, row.method, row.source, value, deviation, row.seeds, notes)
                writer.writerow(map(csv_cell, cells))
    return stream.getvalue()


def _latex(pages: Sequence[_Page]) -> str:
    return "\n\n".join(["% \\usepackage{booktabs}", *("\n".join(_latex_table(page)) for page in pages)]) + "\n"


def _latex_table(page: _Page) -> Iterator[str]:
    heading, *lines = [" & ".join(map(_latex_cell, line)) + r" \\" for line in page.lines]
    figures = len(page.lines[0]) - page.words
    yield r"\begin{table}[tp]"
    yield r"\centering\small"
    yield rf"\caption{{{latex(f'{page.title}. {page.setting}')}}}"
    yield rf"\begin{{tabular}}{{{'l' * page.words}{'r' * figures}}}"
    yield from (r"\toprule", heading, r"\midrule", *lines, r"\bottomrule")
    yield r"\end{tabular}"
    yield r"\par\medskip\raggedright\footnotesize"
    for number, note in enumerate(page.notes, start=1):
        yield rf"\textsuperscript{{{number}}} {latex(note)}\par"
    for remark in page.remarks:
        yield rf"{latex(remark)}\par"
    yield r"\end{table}"


def _latex_cell(cell: _Text) -> str:
    notes = rf"\textsuperscript{{{','.join(map(str, cell.notes))}}}" if cell.notes else ""
    return latex(cell.text) + notes
