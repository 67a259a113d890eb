"""HTML by which objects show themselves in a notebook, escaped: names, captions and classes in it are of others."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from xmr_e2e.escape import one_line

LONGEST = 1000
"""characters of a text that are shown"""


def display(*parts: str) -> str:
    """Parts, made by the functions below, as one object shows them: without formulas, for which a notebook takes text
    between two dollars."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers come as texts, and stand to the right as a notebook has it. Without a heading, the first cell of
    each row is one."""
    lines = [_row("th", head, "th")] if head else []
    lines += [_row("td", row, "td" if head else "th") for row in rows]
    return f"<table>{''.join(lines)}</table>"


def heading(text: object) -> str:
    """A line above what belongs to it."""
    return f"<p><strong>{text_of(text)}</strong></p>"


def paragraph(text: object) -> str:
    """A line of text."""
    return f"<p>{text_of(text)}</p>"


def items(texts: Iterable[object]) -> str:
    """A list; nothing where there is nothing in it."""
    found = "".join(f"<li>{text_of(text)}</li>" for text in texts)
    return f"<ul>{found}</ul>" if found else ""


def text_of(text: object) -> str:
    """Text that is seen as it is, and does nothing; cut where it is long."""
    whole = str(text)
    return html.escape(one_line(whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}…"))


def _row(kind: str, cells: Sequence[object], first: str) -> str:
    shown = (f"<{name}>{text_of(cell)}</{name}>" for name, cell in zip([first, *[kind] * len(cells)], cells))
    return f"<tr>{''.join(shown)}</tr>"
