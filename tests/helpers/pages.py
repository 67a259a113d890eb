"""What README.md and docs/ show: commands, code, files and paths, found by parsing the pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tests import ROOT

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
SHELLS = ("", "bash", "sh", "console")
"""languages of code blocks that hold commands; those that are indented have none"""
FENCE = re.compile(r" *```(\w*)")
DRAWING = "-->"
"""in a line of a drawing of boxes and arrows"""
BUILDERS = "python -m preprocessing.…"
"""the heading of a table's column in which the beginning of the commands is left out"""


@dataclass(frozen=True)
class Block:
    """Lines of code on a page; `heading`: the last one above them."""

    page: str
    heading: str
    language: str
    text: str


def prose_and_code(page: str) -> tuple[list[str], list[Block]]:
    """The page's lines that are no code, and its blocks: fenced ones, and lines that are indented by four or more."""
    prose: list[str] = []
    blocks: list[Block] = []
    heading, language, lines = "", None, list[str]()

    def end(language: str) -> None:
        if lines:
            blocks.append(Block(page, heading, language, "\n".join(lines) + "\n"))
        lines.clear()

    for line in (ROOT / page).read_text().splitlines():
        fence = FENCE.match(line)
        if language is not None:
            if fence:
                end(language)
                language = None
            else:
                lines.append(line)
        elif line.startswith("    ") and not fence:
            lines.append(line.strip())
        else:
            end("")
            if fence:
                language = fence[1]
            elif line.startswith("#"):
                heading = line.lstrip("# ")
            prose.append("" if fence else line)
    end("")
    return prose, blocks


def blocks(language: str) -> Iterator[Block]:
    """All pages' blocks in this language."""
    for page in PAGES:
        yield from (block for block in prose_and_code(page)[1] if block.language == language)


def commands() -> dict[str, str]:
    """Command line, as it stands there without its comment -> the first page that shows it."""
    found: dict[str, str] = {}
    for page in PAGES:
        prose, code = prose_and_code(page)
        lines = [line for block in code if block.language in SHELLS for line in block.text.splitlines()]
        for line in [*lines, *builders_in_tables(prose)]:
            if DRAWING not in line and shlex.split(line, comments=True):
                found.setdefault(re.sub(r"\s+#.*", "", line), page)
    return found


def builders_in_tables(prose: list[str]) -> Iterator[str]:
    """The commands in a column with the heading BUILDERS."""
    column = None
    for line in prose:
        cells = line.split("|")
        if len(cells) < 3:
            column = None
        elif BUILDERS in line:
            column = next(number for number, cell in enumerate(cells) if BUILDERS in cell)
        elif column is not None:
            yield from (BUILDERS.replace("…", span) for span in spans(cells[column]))


def spans(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def spans_of(page: str) -> list[str]:
    return spans("\n".join(prose_and_code(page)[0]))


def alternatives(text: str) -> list[str]:
    """With each of the braces' alternatives: a{b,c} -> ab, ac."""
    parts = re.split(r"\{([^{}]*,[^{}]*)\}", text)
    choices = [part.split(",") if number % 2 else [part] for number, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]
