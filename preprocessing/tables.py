"""Text files, CSV and JSONL tables that people wrote: read strictly, with file and line in each error."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmr_e2e.errors import XmrError


@dataclass(frozen=True)
class Row:
    """One row of a table; `where` names its file and line."""

    where: str
    cells: dict[str, Any]


def read_utf8(path: Path) -> str:
    """A file's text; a byte order mark is dropped.

    Raises:
        XmrError: the file cannot be read, or is not UTF-8; names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise XmrError(f"{path}, line {line}: not UTF-8; save the file in that encoding") from error


def numbered_lines(path: Path, *, read: Callable[[Path], str] = read_utf8) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1. Raises XmrError as `read` does."""
    # Not splitlines(): a caption may hold a character such as U+2028, which ends no line of a text file.
    for number, line in enumerate(read(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """The column names, in lower case, and the rows of a CSV table with a header; blank lines are skipped.

    Raises:
        XmrError: no header, a column named twice, a row with more values than columns, or broken quoting.
    """
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        if not columns:
            raise XmrError(f"{path} is empty: the first line must name the columns")
        twice = {name for name in columns if columns.count(name) > 1}
        if twice:
            raise XmrError(f"{path}: the column {min(twice)!r} is named twice")
        return columns, [_row(path, reader.line_num, columns, values) for values in reader if any(values)]
    except csv.Error as error:
        raise XmrError(f"{path}, line {reader.line_num}: {error}; see to its quotes") from error


def _row(path: Path, line: int, columns: list[str], values: list[str]) -> Row:
    where = f"{path}, line {line}"
    if len(values) > len(columns):
        raise XmrError(f"{where}: {len(values)} values for {len(columns)} columns; put texts with commas into quotes")
    values = values + [""] * (len(columns) - len(values))
    return Row(where, {name: value.strip() for name, value in zip(columns, values)})


def read_jsonl(path: Path) -> list[Row]:
    """The objects of a file with one JSON object a line; their keys in lower case.

    Raises:
        XmrError: a line that is no JSON object.
    """
    rows = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        try:
            document = json.loads(line)
        except json.JSONDecodeError as error:
            raise XmrError(f"{where}: not JSON: {error}") from error
        if not isinstance(document, dict):
            raise XmrError(f"{where}: not a JSON object")
        rows.append(Row(where, {name.strip().lower(): value for name, value in document.items()}))
    return rows


def missing_columns(where: Path | str, found: Iterable[str], wanted: str) -> XmrError:
    """The error for a table that lacks columns; `wanted` says which it must have."""
    return XmrError(f"{where}: the columns are {', '.join(found) or 'none'}; wanted are {wanted}")
