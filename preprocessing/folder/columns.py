"""The columns of a table, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocessing.common.tables import Row, missing_columns
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

TEXT_COLUMN = re.compile(r"(text|texts|caption|captions)[ _]?(\d{0,9})")
LABEL_COLUMNS = ("label", "labels")
FILE_COLUMNS = ("image", *MEDIA_EXTENSIONS)
"""of paths, called as the modality is"""
WANTED = (
    "image, text (or texts, caption, captions), audio, video, shape3d, those that you have, and label (or labels) and "
    "split; others are chosen with --image-column, --text-column, --audio-column, --video-column, --shape3d-column, "
    "--label-column and --split-column"
)
LIKELY_LABELS = re.compile(
    r"(label|class|category|genre|topic|tag|concept|target|species|breed)(e?s|ies)?([ _-]?(name|title|text|id)s?)?"
    r"|categories"
)


@dataclass(frozen=True)
class Columns:
    """Names that were chosen in place of the usual ones; empty where none was."""

    image: str | None = None
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    split: str | None = None
    audio: str | None = None
    video: str | None = None
    shape3d: str | None = None

    @property
    def chosen(self) -> dict[str, tuple[str, ...]]:
        """Option -> the names that were given with it."""
        files = {name: (self.of_files(name),) for name in FILE_COLUMNS}
        given = {**files, "text": self.text, "label": self.label, "split": (self.split,)}
        return {f"--{option}-column": tuple(filter(None, names)) for option, names in given.items() if any(names)}

    def of_files(self, modality: str) -> str | None:
        chosen: str | None = getattr(self, modality)
        return chosen

    def is_known(self, name: str) -> bool:
        """True for the name of a column that would be used."""
        return bool(self.find([name]).used)

    def find(self, columns: Sequence[str]) -> UsedColumns:
        """Of a table's columns, those that hold something that is used."""

        def named(wanted: Sequence[str]) -> tuple[str, ...]:
            lowered = [name.strip().lower() for name in wanted]
            return tuple(name for name in lowered if name in columns)

        files = {modality: named([self.of_files(modality) or modality]) for modality in FILE_COLUMNS}
        split = named([self.split or "split"])
        return UsedColumns(
            files={modality: names[0] for modality, names in files.items() if names},
            texts=named(self.text) if self.text else numbered_texts(columns),
            labels=named(self.label or LABEL_COLUMNS),
            split=split[0] if split else "",
        )


@dataclass(frozen=True)
class UsedColumns:
    """The columns of a table that hold something; empty where there is none."""

    files: dict[str, str]
    """modality -> the column of its files' paths"""
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    split: str

    @property
    def used(self) -> tuple[str, ...]:
        return tuple(filter(None, (*self.files.values(), *self.texts, *self.labels, self.split)))

    @property
    def has_media(self) -> bool:
        """True where there are files of other kinds than pictures."""
        return not self.files.keys() <= {"image"}


def find_columns(table: Path, columns: Sequence[str], chosen: Columns) -> UsedColumns:
    """The columns of a table that hold something.

    Raises:
        XmrError: a chosen column is missing; there is none for files or texts; or there are pictures alone, or texts
            alone, and the others may be among the columns that are not known. Who chooses the column of what there is
            says that there are none.
    """
    for option, names in chosen.chosen.items():
        absent = [name for name in names if name.strip().lower() not in columns]
        if absent:
            raise XmrError(f"{option}: {table} has no column {absent[0]!r}; it has {', '.join(columns)}")
    found = chosen.find(columns)
    lacks_texts = not found.texts and not found.has_media and not chosen.image
    lacks_files = not found.files and not chosen.text
    if not (found.files or found.texts) or ((lacks_texts or lacks_files) and set(columns) - set(found.used)):
        raise missing_columns(table, columns, WANTED)
    return found


def numbered_texts(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that are called text and the like, in the order of their numbers: text, text2, …, text10."""
    matches = [match for match in map(TEXT_COLUMN.fullmatch, columns) if match]
    return tuple(match[0] for match in sorted(matches, key=lambda match: int(match[2] or 0)))


def notes_on_columns(table: Path, columns: Sequence[str], found: UsedColumns, rows: Sequence[Row]) -> list[str]:
    """Notes on the columns that are not used, and on labels that are missing or are only numbers."""
    unused = [name for name in columns if name not in found.used]
    notes = []
    if not found.labels:
        notes.append(f"{table.name}: no column is called {' or '.join(LABEL_COLUMNS)}{_advice(unused)}")
    elif len(found.labels) == 1:
        names = [name for name in unused if _names_numbers(rows, found.labels[0], name)]
        notes += [
            f"{table.name}: the labels are numbers, and the column {name} has a name for each: --label-column "
            f"{_quoted(name)} takes these"
            for name in names[:1]
        ]
    if unused:
        notes.append(f"{table.name}: columns not used: {', '.join(unused)}")
    return notes


def _advice(unused: Sequence[str]) -> str:
    likely = [name for name in unused if LIKELY_LABELS.fullmatch(name)]
    if likely:
        return f"; if {likely[0]} holds the labels: --label-column {_quoted(likely[0])}"
    return "; if another holds the labels, choose it with --label-column" if unused else ""


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def _names_numbers(rows: Sequence[Row], numbers: str, names: str) -> bool:
    """True where one column holds whole numbers, and another a name for each of them."""
    pairs = {(str(row.cells.get(numbers, "")), str(row.cells.get(names) or "")) for row in rows}
    return (
        len({number for number, _ in pairs}) == len({name for _, name in pairs}) == len(pairs) > 1
        and all(number.isdecimal() for number, _ in pairs)
        and all(name and not name.isdecimal() for _, name in pairs)
    )
