"""Samples of a table or of class folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocessing.splits import canonical_split
from preprocessing.tables import Row, missing_columns, numbered_lines, read_csv, read_jsonl
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import RawSample
from xmr_e2e.shards.manifest import Skipped

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEXT_COLUMN = re.compile(r"(text|texts|caption|captions)[ _]?(\d*)")
LABEL_COLUMNS = ("label", "labels")
WANTED = "image, text (or texts, caption, captions), and if you have them label (or labels) and split"


@dataclass(frozen=True)
class Found:
    """What lies there. Without `has_splits`, the split of each sample is still to be drawn."""

    samples: list[RawSample]
    has_splits: bool
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def samples_of_table(raw: Path, table: Path) -> Found:
    """The samples of a CSV or JSONL table; image paths are relative to `raw`.

    Raises:
        XmrError: a column is missing, a value has a wrong type, or some rows have a split and some have none.
    """
    if table.suffix.lower() == ".csv":
        columns, rows = read_csv(table)
    elif table.suffix.lower() in (".jsonl", ".ndjson"):
        rows = read_jsonl(table)
        columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    else:
        raise XmrError(f"{table}: the table must be a .csv or a .jsonl file")
    texts = _text_columns(columns)
    if "image" not in columns or not texts:
        raise missing_columns(table, columns, WANTED)
    has_splits = _check_splits(rows)
    samples = [_sample(raw, row, texts, has_splits) for row in rows]
    unused = [name for name in columns if name not in ("image", "split", *LABEL_COLUMNS, *texts)]
    notes = [f"{table.name}: columns not used: {', '.join(unused)}"] if unused else []
    return Found(samples, has_splits, notes=notes)


def _text_columns(columns: Iterable[str]) -> list[str]:
    """The columns that hold texts, in the order of their numbers: text, text2, …, text10."""
    matches = [match for match in map(TEXT_COLUMN.fullmatch, columns) if match]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[2] or 0))]


def _check_splits(rows: Sequence[Row]) -> bool:
    """Whether the rows have splits: all or none must."""
    given = [row for row in rows if row.cells.get("split")]
    absent = [row for row in rows if not row.cells.get("split")]
    if given and absent:
        raise XmrError(f"{given[0].where} has a split, but {absent[0].where} has none; give all rows a split, or none")
    return bool(given)


def _sample(raw: Path, row: Row, text_columns: Sequence[str], has_splits: bool) -> RawSample:
    image = row.cells.get("image")
    if not isinstance(image, str) or not image:
        raise XmrError(f'{row.where}: "image" must be the path of a file')
    texts = [text for name in text_columns for text in _strings(row, name)]
    labels = [part.strip() for name in LABEL_COLUMNS for text in _strings(row, name) for part in text.split(";")]
    return RawSample(
        source=image,
        split=canonical_split(str(row.cells["split"]), row.where) if has_splits else "",
        image=raw / image,
        texts=tuple(text for text in texts if text),
        labels=tuple(label for label in labels if label),
    )


def _strings(row: Row, name: str) -> list[str]:
    value: Any = row.cells.get(name)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    if not all(type(item) in (str, int) for item in values):
        raise XmrError(f'{row.where}: "{name}" must be a string or a list of strings')
    return [str(item) for item in values]


def samples_of_folders(raw: Path) -> Found:
    """The samples of class folders: `<class>/<name>.jpg` with `<name>.txt` beside it, one text a line.

    Raises:
        XmrError: a text file is not UTF-8.
    """
    found = Found([], has_splits=False)
    for folder in sorted(path for path in raw.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for image in sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES):
            source = f"{folder.name}/{image.name}"
            texts = image.with_suffix(".txt")
            if not texts.exists():
                found.skipped.append(Skipped(source, "", f"{image}: there is no {texts.name} beside it"))
                continue
            lines = tuple(line for _, line in numbered_lines(texts))
            found.samples.append(RawSample(source, "", image, lines, (folder.name,)))
    stray = [path.name for path in raw.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if stray:
        found.notes.append(f"{len(stray)} images are in no class folder and not used, such as {min(stray)}")
    return found
