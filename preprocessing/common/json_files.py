"""JSON files that publishers and people wrote: read strictly, with file and entry in each error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from preprocessing.common.tables import read_text
from xmr_e2e.errors import XmrError

Pairs = list[tuple[str, Any]]
Kind = TypeVar("Kind", str, int)
NAMES = {str: "a string", int: "a whole number"}


def read_object(path: Path, make: Callable[[Pairs], dict[str, Any]] = dict) -> dict[str, Any]:
    """The object that a JSON file holds; `make` turns the keys and values of each object within into a dict.

    Raises:
        XmrError: the file cannot be read, is not JSON, or holds something other than an object.
    """
    try:
        document = json.loads(read_text(path), object_pairs_hook=make)
    except (ValueError, RecursionError) as error:  # the latter: of what is nested without end
        raise XmrError(f"{path}: not JSON, or cut off: {error}") from error
    if not isinstance(document, dict):
        raise XmrError(f"{path} must hold a JSON object")
    return document


def entries(document: dict[str, Any], section: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of one of the document's lists; before each, its file and place for errors.

    Raises:
        XmrError: there is no such list, or something in it is not an object.
    """
    values = document.get(section)
    if not isinstance(values, list):
        raise XmrError(f"{path}: there is no list {section!r}")
    for number, value in enumerate(values):
        where = f"{path}, {section}[{number}]"
        if not isinstance(value, dict):
            raise XmrError(f"{where}: not a JSON object")
        yield where, value


def value_of(entry: dict[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
    """A value that must be there and of this kind. Raises XmrError if it is not."""
    value = entry.get(name)
    if type(value) is not kind:  # not isinstance(): true is an int to Python
        raise XmrError(f"{where}: {name!r} must be {NAMES[kind]}")
    return value
