"""The common parts of pages: their templates, and the format of numbers and settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from xmr_e2e.escape import on_page
from xmr_e2e.evaluation.figures import modality_title
from xmr_e2e.files import write_atomically

LONGEST_NAME = 24
"""of a class, in columns, where names stand beside each other"""
NAMELESS = "(no name)"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Write one of `pages/` as a file that opens anywhere: no script, no other file, no address.

    Texts of others stay texts: jinja2 escapes what HTML obeys, and `on_page` what browsers do.
    """
    import jinja2  # with evaluation, every training imports this module, and only its end writes a page

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xmr_e2e.reports", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["zip"] = zip
    environment.filters |= {"data_uri": data_uri, "title_of": modality_title, "short": short_name}
    write_atomically(path, environment.get_template(template).render(content).encode(errors="replace"))


def _finalize(value: Any) -> Any:
    return on_page(value) if type(value) is str else value  # and no Markup, which was text before


def short_name(name: str) -> str:
    """A name in one line of at most LONGEST_NAME columns, of which characters of East Asian scripts take two."""
    line = " ".join(name.split()) or NAMELESS
    return line if cell_len(line) <= LONGEST_NAME else f"{set_cell_size(line, LONGEST_NAME - 1).rstrip()}…"


def number(value: float) -> str:
    """Three decimals; more where a value is so small that they would say little, one where it is a rank."""
    if abs(value) >= 10:
        return f"{value:,.1f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def flattened(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of nested JSON values; a list of plain values is one value."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from flattened(value, f"{name}.{key}" if name else str(key))
    elif isinstance(document, list | tuple) and any(isinstance(item, Mapping) for item in document):
        for place, item in enumerate(document):
            yield from flattened(item, f"{name}.{place}")
    elif isinstance(document, list | tuple):
        yield name, " ".join(map(str, document))
    else:
        yield name, "–" if document is None or document == {} else str(document)


def data_uri(content: bytes, kind: str) -> str:
    """An address that is the content. kind: a picture's ("png"), or a whole media type ("text/csv")."""
    return f"data:{kind if '/' in kind else f'image/{kind}'};base64,{base64.b64encode(content).decode()}"
