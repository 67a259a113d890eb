"""Paths in the cells of a table: spelled as on any system, and within the folder of raw files."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from preprocessing.common.tables import Row
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.raw import RawTree

LONGEST_NAME = 255
"""bytes in the name of a file or folder, on all usual file systems"""


def path_in_cell(raw: Path, within: RawTree | None, row: Row, column: str) -> str | None:
    """The path within `raw` as it stands in the cell, or as the file is spelled that is meant; None for an empty cell.

    within: the same folder, out of which no link may lead; None where links may.

    Raises:
        XmrError: it is no path, or leads out of `raw`.
    """
    cell = row.cells.get(column)
    if cell is None or cell == "":
        return None
    if not isinstance(cell, str) or not cell.strip():
        raise XmrError(f'{row.where}: "{column}" must be the path of a file')
    if "\0" in cell or any(len(os.fsencode(part)) > LONGEST_NAME for part in re.split(r"[/\\]", cell)):
        raise XmrError(f'{row.where}: "{column}" is not the path of a file: {cell[:60]!r} …')
    path = next((name for name in _spellings(cell) if (raw / name).exists()), cell)
    if not plain(raw / path).is_relative_to(plain(raw)):
        raise XmrError(f"{row.where}: {path} lies outside of {raw}; give the folder that holds all files as RAW")
    if within and not within.holds(raw / path):
        raise within.error(f"{row.where}: {path}")
    return path


def plain(path: Path) -> Path:
    """The same path without "." and ".." in it, which two rows may spell differently."""
    return Path(posixpath.normpath(path.absolute()))


def _spellings(path: str) -> Iterator[str]:
    """The path as it stands there, with "/" for the "\\" of Windows, and with accents as other systems encode them."""
    yield path
    slashed = path.strip().replace("\\", "/")
    yield slashed
    yield unicodedata.normalize("NFC", slashed)
    yield unicodedata.normalize("NFD", slashed)
