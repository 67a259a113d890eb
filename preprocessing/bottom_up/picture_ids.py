"""Ids under which pictures stand in others' files, and the samples that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from preprocessing.common.json_files import read_object
from preprocessing.common.tables import missing_columns, read_csv
from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened
from xmr_e2e.shards.schema import IMAGE_SUFFIXES

Value = TypeVar("Value")

_COCO = re.compile(r"(?:COCO_\w+?_)?0*(\d+)", re.ASCII)
_ADDED = re.compile(r"#fold\d$")
"""suffix by which the MSCOCO builder tells the fifths of the test split"""


def names_of(picture: str) -> Iterator[str]:
    """The names of a picture, from the one that says most to a number: val2014/COCO_val2014_000000391895.jpg is also
    COCO_val2014_000000391895.jpg, COCO_val2014_000000391895, and 391895."""
    whole = _ADDED.sub("", picture)
    path = PurePosixPath(whole.replace("\\", "/"))
    stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
    number = _COCO.fullmatch(stem)
    yield from dict.fromkeys((picture, whole, path.name, stem, number[1] if number else stem))


class PictureIds(Generic[Value]):
    """Values by the id of a picture, found by any of the names that the picture has.

    names: id -> the name of its picture, where the ids say nothing by themselves.
    """

    def __init__(self, names: dict[str, str] | None = None) -> None:
        self._names = names
        self._values: dict[str, Value] = {}
        self._ids: dict[str, str | None] = {}
        self._taken: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._values)

    def examples(self, most: int) -> list[str]:
        """Some of the ids."""
        return [shortened(identity) for identity in islice(self._values, most)]

    def get(self, identity: str) -> Value | None:
        """The value under this very id."""
        return self._values.get(identity)

    def add(self, identity: str, value: Value) -> None:
        """One more, under an id that there is not yet."""
        self._values[identity] = value
        picture = identity if self._names is None else self._names.get(identity)
        for name in names_of(picture) if picture else ():
            # A name that two ids share stands for neither.
            self._ids[name] = identity if self._ids.get(name, identity) == identity else None

    def find(self, source: str, key: str) -> Value | None:
        """The value of the sample with this source and key; None where there is none.

        Raises:
            XmrError: a name that two ids share, or two samples that one id would stand for.
        """
        for name in (*names_of(source), key):
            if name not in self._ids:
                continue
            identity = self._ids[name]
            if identity is None:
                raise XmrError(
                    f"{source or key}: several ids stand for {shortened(name)}; tell them apart with --names"
                )
            other = self._taken.setdefault(identity, source or key)
            if other != (source or key) and self._names is None:
                raise XmrError(
                    f"the id {shortened(identity)} stands for both {other} and {source or key}; say which with --names"
                )
            return self._values[identity]
        return None

    def unused(self) -> int:
        """The number of ids that no sample was found for."""
        return len(self._values) - len(self._taken)


def read_names(path: Path) -> dict[str, str]:
    """Id -> name of its picture: of a table with the columns id and name, or a JSON object.

    Raises:
        XmrError: something else, or an id with two names.
    """
    if path.suffix.lower() == ".json":
        document = read_object(path)
        wrong = next((name for name in document.values() if not isinstance(name, str)), None)
        if wrong is not None:
            raise XmrError(f"{path}: {shortened(wrong)} is no name of a picture")
        return document
    columns, rows = read_csv(path, lambda name: name in ("id", "name"))
    if not {"id", "name"} <= set(columns):
        raise missing_columns(path, columns, "id, name")
    names: dict[str, str] = {}
    for row in rows:
        identity, name = row.cells["id"], row.cells["name"]
        if names.setdefault(identity, name) != name:
            raise XmrError(f"{row.where}: the id {shortened(identity)} has another name above")
    return names
