"""Rows of a table, whoever made it, as samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from preprocessing.arrow.columns import Columns
from preprocessing.arrow.pictures import Find, PictureFolder
from preprocessing.common.splits import ALIASES
from preprocessing.folder.found import Found
from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.shards.schema import key_of

Row = Mapping[str, Any]
NONE = "none"
"""what is said of splits that are left out"""
NO_CLASS = -1
"""the number that stands for a label that is not published"""


@dataclass(frozen=True)
class Part:
    """The rows of one split, as it is called by whoever published it."""

    name: str
    """empty where the table has no splits"""
    where: str
    """for errors"""
    rows: Callable[[Sequence[str]], Iterable[Row]]
    """called with the columns that are wanted"""
    count: int | None
    """rows; None where they are not known before they are read"""


@dataclass(frozen=True)
class RowReader:
    """Makes samples of rows."""

    columns: Columns
    splits: Mapping[str, str]
    """further names of splits -> which they are"""
    pictures: PictureFolder
    find: Find

    def read(self, parts: Sequence[Part], track: Callable[[Part], Iterable[Row]]) -> Found:
        """The samples of all parts. Rows of the same picture, byte for byte, in the same split and with the same labels
        are one sample with the texts of all of them, but where each row has an id of its own.

        Args:
            track: the rows of a part, of which it may show how many are read.

        Raises:
            XmrError: a value has another type than its column should have, a label that is no class, or the name of a
                split that is not known.
        """
        samples: dict[object, RawSample] = {}
        rows = left_out = 0
        for part in parts:
            for number, row in enumerate(track(part)):
                rows += 1
                sample = self._sample(row, part, number)
                if sample is None:
                    left_out += 1
                    continue
                key = self._same(row, sample)
                first = samples.get(key)
                samples[key] = sample if first is None else _joined(first, sample)
        has_splits = bool(self.columns.split) or len(parts) > 1
        notes = [f"{left_out} rows are of splits that are left out (--splits)"] if left_out else []
        if len(samples) < rows - left_out:
            notes.append(f"{rows - left_out} rows are of {len(samples)} pictures, whose texts are put together")
        found = list(samples.values()) if has_splits else [replace(each, split="") for each in samples.values()]
        return Found(found, has_splits, notes=notes, required=self.columns.required, is_listed=True)

    def _sample(self, row: Row, part: Part, number: int) -> RawSample | None:
        where = f"{part.where}, row {number}"
        split = self._split(row, part, where)
        if split == NONE:
            return None
        texts = tuple(text for name in self.columns.texts for text in _strings(row[name], f"{where}, {name}"))
        labels = tuple(label for name in self.columns.labels for label in self._labels(row[name], name, where))
        image = self.pictures.take(row[self.columns.image], self.find, where) if self.columns.image else None
        source = self._id(row) or f"{part.name or 'row'}/{number:08d}"
        return RawSample(source, split, image, texts, labels, where=where)

    def _same(self, row: Row, sample: RawSample) -> object:
        if self._id(row) or sample.image is None:
            return sample.source
        return sample.image, sample.split, frozenset(sample.labels)

    def _id(self, row: Row) -> str:
        """The source that a row says, where its key is that of this source: then both are of this project's shards."""
        if not self.columns.ids:
            return ""
        key, source = (row[name] for name in self.columns.ids)
        return source if isinstance(source, str) and key == key_of(source) else ""

    def _split(self, row: Row, part: Part, where: str) -> str:
        name = row[self.columns.split] if self.columns.split else part.name
        return split_of(name, self.splits, where) if name != "" else ""

    def _labels(self, value: object, column: str, where: str) -> Iterator[str]:
        names = self.columns.class_names.get(column)
        for item in value if isinstance(value, list) else [value]:
            if item is None or item == "" or (names and item == NO_CLASS):
                continue
            if names is None and type(item) in (str, int):
                yield str(item).strip()
            elif names and type(item) is int and 0 <= item < len(names):
                yield names[item]
            else:
                raise XmrError(f"{where}: {column}: {shortened(item)} is no class")


def split_of(name: object, splits: Mapping[str, str], where: str) -> str:
    """The split that a name stands for; NONE where it is to be left out.

    Raises:
        XmrError: it is not known.
    """
    found = splits.get(str(name)) or ALIASES.get(str(name).strip().lower())
    if found is None:
        raise XmrError(
            f"{where}: the split {shortened(str(name))} is none of {', '.join(ALIASES)}: say which it is, as in "
            "--splits NAME train, or leave it out with --splits NAME none"
        )
    return found


def check_splits(splits: Mapping[str, str]) -> None:
    """Raise XmrError for --splits that lead to no split."""
    for name, split in splits.items():
        if split not in (*ALIASES.values(), NONE):
            raise XmrError(f"--splits {name} {split}: wanted is train, val, test or none")


def _strings(value: object, where: str) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if item is not None and not isinstance(item, str):
            raise XmrError(f"{where}: {shortened(item)} is no text")
        if item:
            yield item


def _joined(first: RawSample, other: RawSample) -> RawSample:
    return replace(first, texts=tuple(dict.fromkeys((*first.texts, *other.texts))))
