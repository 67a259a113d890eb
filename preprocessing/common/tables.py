"""Text files, CSV and JSONL tables that people wrote: read strictly, with file and line in each error."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from preprocessing.common.published_text import RAW_TEXT_BYTES, UTF16_MARKS
from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes

DELIMITERS = (",", ";", "\t", "|")
TAB_SUFFIXES = (".tsv", ".tab")
# A first line by which spreadsheets are told what parts the columns.
DELIMITER_LINE = re.compile(r"\Asep=.(?=\r?\n)", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a table; `where` names its file and line."""

    where: str
    cells: dict[str, Any]


def read_text(path: Path) -> str:
    """A file's text, in UTF-8, or in UTF-16 with its byte order mark; the mark is dropped.

    Raises:
        XmrError: the file cannot be read, or is in another encoding; names the line.
    """
    try:
        data = read_bytes(path, most=RAW_TEXT_BYTES)
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise XmrError(f"{path}, line {line}: not UTF-8; save the file in that encoding") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise XmrError(f"{path}, line {line}: a zero byte, which is in no UTF-8 text; save the file in that encoding")
    return text


def numbered_lines(path: Path, *, read: Callable[[Path], str] = read_text) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1. Raises XmrError as `read` does."""
    text = read(path)
    # Not splitlines(): a caption may hold a character such as U+2028, which ends no line of a text file.
    for number, line in enumerate(text.split("\n" if "\n" in text else "\r"), start=1):
        if line.strip():
            yield number, line.strip()


def read_csv(path: Path, is_known: Callable[[str], bool]) -> tuple[list[str], list[Row]]:
    """The column names, in lower case, and the rows of a CSV table with a header; blank lines are skipped.

    Columns are parted by what gives the header most names that are known: a comma (in .tsv a tab), or else a
    semicolon, a tab or "|". A column without a name and without values is left out.

    Raises:
        XmrError: no header, a column named twice, a row with more values than columns, or broken quoting.
    """
    text = DELIMITER_LINE.sub("", read_text(path))
    delimiter = _delimiter_of(text, "\t" if path.suffix.lower() in TAB_SUFFIXES else ",", is_known)
    records = _all_records(path, text, delimiter)
    if not records:
        raise XmrError(f"{path} is empty: the first line must name the columns")
    names = [_plain(name) for name in records.pop(0)[1]]
    columns = [name or f"column {number}" for number, name in enumerate(names, start=1)]
    twice = {name for name in columns if columns.count(name) > 1}
    if twice:
        raise XmrError(f"{path}: the column {min(twice)!r} is named twice")
    rows = [_row(f"{path}, line {line}", columns, values, delimiter) for line, values in records]
    unnamed = [column for column, name in zip(columns, names) if not name]
    empty = [column for column in unnamed if not any(row.cells[column] for row in rows)]
    return [column for column in columns if column not in empty], rows


def _delimiter_of(text: str, usual: str, is_known: Callable[[str], bool]) -> str:
    """The delimiter that gives the header most known columns; of several, the usual one, if it parts anything."""

    def fit(delimiter: str) -> tuple[int, bool]:
        try:
            _, names = next(_records(Path(), text, delimiter), (0, []))
        except XmrError:  # quotes that begin or end within what this delimiter parts
            return 0, False
        return sum(is_known(_plain(name)) for name in names), len(names) > 1

    return max((usual, *DELIMITERS), key=fit)


def _plain(name: str) -> str:
    """A column's name, in lower case, without blanks around it and characters that nobody sees."""
    return name.strip("\ufeff\u200b\u00a0 \t\r\n").lower()


def _all_records(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Of a table between tabs, quotes are plain characters where they make no sense, and each line is whole so."""
    try:
        return list(_records(path, text, delimiter))
    except XmrError:
        plain = list(_records(path, text, delimiter, csv.QUOTE_NONE)) if delimiter == "\t" else []
        if len({len(values) for _, values in plain}) == 1:
            return plain
        raise


def _records(
    path: Path, text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line and the values of each record that is not blank."""
    csv.field_size_limit(2**31 - 1)  # a text may be longer than the default of 131,072 characters
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter, quoting=quoting)
    line = 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise XmrError(f"{path}, line {line}: {error}; see to its quotes") from error


def _row(where: str, columns: list[str], values: list[str], delimiter: str) -> Row:
    if any(value.strip() for value in values[len(columns) :]):
        what = "commas" if delimiter == "," else f"{delimiter!r}"
        raise XmrError(f"{where}: {len(values)} values for {len(columns)} columns; put texts with {what} into quotes")
    values = values + [""] * (len(columns) - len(values))
    return Row(where, {name: value.strip() for name, value in zip(columns, values)})


def read_jsonl(path: Path) -> list[Row]:
    """The objects of a file with one JSON object a line, or with one JSON list of objects; keys in lower case.

    Raises:
        XmrError: a line that is no JSON object, or a key given twice.
    """
    listed = _listed_objects(read_text(path))
    if listed is not None:
        return [_object(f"{path}, entry {number}", entry) for number, entry in enumerate(listed, start=1)]
    return [_object(f"{path}, line {number}", line) for number, line in numbered_lines(path)]


def _listed_objects(text: str) -> list[tuple[Any, ...]] | None:
    """The entries of a JSON list of objects, or of none; None for any other text."""
    if not re.match(r"\s*\[\s*[{\]]", text):
        return None
    try:
        entries: list[tuple[Any, ...]] = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    return entries


def _object(where: str, entry: str | tuple[Any, ...]) -> Row:
    """The row of a JSON object: its text, or its pairs of key and value."""
    try:
        # Objects become tuples, which JSON has not, so that a key given twice is seen.
        pairs = json.loads(entry, object_pairs_hook=tuple) if isinstance(entry, str) else entry
    except (ValueError, RecursionError) as error:  # the latter: of what is nested without end
        raise XmrError(f"{where}: not JSON: {error}; wanted is one object a line") from error
    if not isinstance(pairs, tuple):
        raise XmrError(f"{where}: not a JSON object")
    cells: dict[str, Any] = {}
    for name, value in pairs:
        key = _plain(name)
        if key in cells:
            raise XmrError(f"{where}: the key {name!r} is given twice")
        cells[key] = value
    return Row(where, cells)


def missing_columns(where: Path | str, found: Iterable[str], wanted: str) -> XmrError:
    """The error for a table that lacks columns; `wanted` says which it must have."""
    return XmrError(f"{where}: the columns are {', '.join(found) or 'none'}; wanted are {wanted}")
