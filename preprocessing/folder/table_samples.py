"""Samples of a table with a row for each picture, or for each text of a picture."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preprocessing.common.splits import canonical_split
from preprocessing.common.tables import TAB_SUFFIXES, Row, read_csv, read_jsonl
from preprocessing.folder.columns import Columns, UsedColumns, find_columns, notes_on_columns
from preprocessing.folder.found import Found, Unused, is_foreign
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.raw import RawSample, RawTree
from xmr_e2e.shards.schema import IMAGE_SUFFIXES, is_litter

CSV_SUFFIXES = (".csv", *TAB_SUFFIXES)
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
LONGEST_NAME = 255
"""bytes in the name of a file or folder, on all usual file systems"""


@dataclass(frozen=True)
class _Parsed:
    """A row's sample."""

    where: str
    sample: RawSample


def samples_of_table(raw: Path, table: Path, chosen: Columns = Columns(), *, outside: bool = False) -> Found:
    """The samples of a CSV or JSONL table; image paths are relative to `raw`.

    Rows of one picture with the same labels and split are one sample with the texts of all of them.

    outside: whether links in `raw` may lead out of it.

    Raises:
        XmrError: a column is missing, a value has a wrong type, a path leaves `raw`, rows of one picture have other
            labels or splits, or some rows have a split and some have none.
    """
    suffix = table.suffix.lower()
    if suffix in CSV_SUFFIXES:
        columns, rows = read_csv(table, chosen.is_known)
    elif suffix in JSON_SUFFIXES:
        rows = read_jsonl(table)
        columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    else:
        raise XmrError(f"{table}: the table must be a .csv or a .jsonl file (or .tsv, .json, .ndjson)")
    used = find_columns(table, columns, chosen)
    has_splits = _check_splits(rows, used.split)
    separator = ";" if suffix in CSV_SUFFIXES else None  # JSON has lists for that
    within = None if outside else RawTree(raw)
    parsed = [_parse(raw, within, row, used, has_splits, label_separator=separator) for row in rows]
    samples = _join_rows(parsed)
    notes = notes_on_columns(table, columns, used, rows)
    if len(samples) < len(rows):
        notes.append(f"{table.name}: {len(rows)} rows are of {len(samples)} pictures, whose texts are put together")
    return Found(samples, has_splits, notes=[*notes, *_notes_on_unlisted(raw, samples)])


def _check_splits(rows: Sequence[Row], column: str) -> bool:
    """True where the rows have splits: all or none must."""
    given = [row for row in rows if _split_of(row, column)]
    absent = [row for row in rows if not _split_of(row, column)]
    if given and absent:
        raise XmrError(f"{given[0].where} has a split, but {absent[0].where} has none; give all rows a split, or none")
    return bool(given)


def _split_of(row: Row, column: str) -> str:
    value = row.cells.get(column)
    return "" if value is None else str(value).strip()


def _parse(
    raw: Path,
    within: RawTree | None,
    row: Row,
    used: UsedColumns,
    has_splits: bool,
    *,
    label_separator: str | None,
) -> _Parsed:
    source = _source(raw, row, used.image)
    if within and not within.holds(raw / source):
        raise within.error(f"{row.where}: {source}")
    labels = [text for name in used.labels for text in _strings(row, name)]
    if label_separator:
        labels = [part for text in labels for part in text.split(label_separator)]
    sample = RawSample(
        source=source,
        split=canonical_split(_split_of(row, used.split), row.where) if has_splits else "",
        image=raw / source,
        texts=tuple(text for name in used.texts for text in _strings(row, name) if text),
        labels=tuple(label.strip() for label in labels if label.strip()),
    )
    return _Parsed(row.where, sample)


def _source(raw: Path, row: Row, column: str) -> str:
    """The picture's path as it stands in the row, or as the file is spelled that is meant.

    Raises:
        XmrError: it is no path, or leads out of `raw`.
    """
    image = row.cells.get(column)
    if not isinstance(image, str) or not image.strip():
        raise XmrError(f'{row.where}: "{column}" must be the path of a file')
    if "\0" in image or any(len(os.fsencode(part)) > LONGEST_NAME for part in re.split(r"[/\\]", image)):
        raise XmrError(f'{row.where}: "{column}" is not the path of a file: {image[:60]!r} …')
    image = next((name for name in _spellings(image) if (raw / name).exists()), image)
    if not _plain(raw / image).is_relative_to(_plain(raw)):
        raise XmrError(f"{row.where}: {image} lies outside of {raw}; give the folder that holds all pictures as RAW")
    return image


def _spellings(image: str) -> Iterator[str]:
    """The path as it stands there, with "/" for the "\\" of Windows, and with accents as other systems encode them."""
    yield image
    plain = image.strip().replace("\\", "/")
    yield plain
    yield unicodedata.normalize("NFC", plain)
    yield unicodedata.normalize("NFD", plain)


def _plain(path: Path) -> Path:
    """The same path without "." and ".." in it, which two rows may spell differently."""
    return Path(posixpath.normpath(path.absolute()))


def _strings(row: Row, name: str) -> list[str]:
    value: Any = row.cells.get(name)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    if not all(type(item) in (str, int) for item in values):
        raise XmrError(f'{row.where}: "{name}" must be a string or a list of strings')
    return [str(item) for item in values]


def _join_rows(rows: Sequence[_Parsed]) -> list[RawSample]:
    """One sample for each picture, with the texts of all its rows, each once.

    Raises:
        XmrError: rows of one picture have other labels or another split; both lines are named.
    """
    by_picture: dict[Path, list[_Parsed]] = {}
    for row in rows:
        assert row.sample.image is not None
        by_picture.setdefault(_plain(row.sample.image), []).append(row)
    return [_join(same) if len(same) > 1 else same[0].sample for same in by_picture.values()]


def _join(rows: Sequence[_Parsed]) -> RawSample:
    first = rows[0]
    for row in rows[1:]:
        for what, one, other in (
            ("labels", sorted({*first.sample.labels}), sorted({*row.sample.labels})),
            ("splits", [first.sample.split], [row.sample.split]),
        ):
            if one != other:
                raise XmrError(
                    f"{first.where} and {row.where.rpartition(', ')[2]} are both of {first.sample.source} and have "
                    f"other {what}: {', '.join(one) or 'none'} and {', '.join(other) or 'none'}; rows of one picture "
                    "become one sample with several texts, so each row needs all its labels and the same split"
                )
    return replace(first.sample, texts=tuple(dict.fromkeys(text for row in rows for text in row.sample.texts)))


def _notes_on_unlisted(raw: Path, samples: Sequence[RawSample]) -> list[str]:
    """Pictures beside those of the table that are in no row of it, and pictures of the table that are not read."""
    unused = Unused()
    listed = {_plain(sample.image) for sample in samples if sample.image}
    for folder in sorted({path.parent for path in listed if path.parent.is_dir()}):
        for path in sorted(folder.iterdir()):
            if path in listed or is_litter(path.name):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES or is_foreign(path):
                unused.add("pictures are in no row of the table and not used", path.relative_to(_plain(raw)).as_posix())
    for sample in samples:
        if sample.image and is_foreign(sample.image):
            unused.add_foreign(sample.image, sample.source)
    return unused.notes()
