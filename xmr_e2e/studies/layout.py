"""Tables for people, as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from xmr_e2e.escape import latex, markdown

Format: TypeAlias = Literal["markdown", "csv", "latex"]
Emphasis: TypeAlias = Literal["", "best", "second"]


@dataclass(frozen=True)
class Text:
    """A cell of a printed table, and the numbers of its footnotes."""

    text: str
    notes: tuple[int, ...] = ()
    emphasis: Emphasis = ""
    """the best of its column is printed bold, the second underlined"""


@dataclass(frozen=True)
class Page:
    """A table laid out for people."""

    title: str
    setting: str
    lines: tuple[tuple[Text, ...], ...]
    """the first is the heading"""
    words: int
    """columns of words; the others are of figures"""
    notes: tuple[str, ...] = ()
    """number 1 first"""
    remarks: tuple[str, ...] = ()


class Footnotes:
    """The notes of a table, each once; a cell has their numbers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """number 1 first"""

    def numbers(self, marks: Sequence[str]) -> tuple[int, ...]:
        """The numbers of these notes, of which the new ones are taken in."""
        self.notes.extend(mark for mark in dict.fromkeys(marks) if mark not in self.notes)
        return tuple(sorted(self.notes.index(mark) + 1 for mark in set(marks)))


def form_of(out: Path | None, given: Format | None) -> Format:
    """The form of a table's text: as given, or as its file is called, or Markdown."""
    return given or _SUFFIXES.get(out.suffix if out else "", "markdown")


_SUFFIXES: dict[str, Format] = {".md": "markdown", ".csv": "csv", ".tex": "latex"}
_MARKDOWN: dict[Emphasis, tuple[str, str]] = {"": ("", ""), "best": ("**", "**"), "second": ("<u>", "</u>")}
_LATEX: dict[Emphasis, tuple[str, str]] = {"": ("", ""), "best": (r"\textbf{", "}"), "second": (r"\underline{", "}")}


def as_markdown(pages: Sequence[Page], closing: Sequence[str] = ()) -> str:
    """The pages under headings, and paragraphs that close them."""
    blocks = []
    for page in pages:
        blocks += [f"## {markdown(page.title)}", markdown(page.setting), "\n".join(_markdown_table(page))]
        blocks += ["\n".join(f"- [{number}] {markdown(note)}" for number, note in enumerate(page.notes, start=1))]
        blocks += map(markdown, page.remarks)
    return "\n\n".join(block for block in (*blocks, *closing) if block) + "\n"


def _markdown_table(page: Page) -> Iterator[str]:
    """The columns stand below each other in a terminal, too."""
    lines = [[_markdown_cell(cell) for cell in line] for line in page.lines]
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    rule = ["-" * width if place < page.words else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    for line in (lines[0], rule, *lines[1:]):
        words = [text.ljust(width) for text, width in zip(line, widths[: page.words])]
        figures = [text.rjust(width) for text, width in zip(line[page.words :], widths[page.words :])]
        yield f"| {' | '.join(words + figures)} |"


def _markdown_cell(cell: Text) -> str:
    notes = f" [{', '.join(map(str, cell.notes))}]" if cell.notes else ""
    before, behind = _MARKDOWN[cell.emphasis]
    return before + markdown(cell.text) + behind + notes


def as_latex(pages: Sequence[Page]) -> str:
    """A table environment for each page, for the package booktabs."""
    return "\n\n".join(["% \\usepackage{booktabs}", *("\n".join(_latex_table(page)) for page in pages)]) + "\n"


def _latex_table(page: Page) -> Iterator[str]:
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


def _latex_cell(cell: Text) -> str:
    notes = rf"\textsuperscript{{{','.join(map(str, cell.notes))}}}" if cell.notes else ""
    before, behind = _LATEX[cell.emphasis]
    return before + latex(cell.text) + behind + notes
