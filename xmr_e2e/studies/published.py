"""The figures that the five papers print, from published.toml beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.discovery import method_title

BOTH_WAYS = ("image_to_text", "text_to_image", "average")


@dataclass(frozen=True)
class Paper:
    """The origin of a paper's figures."""

    selected_on: str = ""
    """basis of the choice of the epoch of the paper's own method, in the words of evaluation/*.json; "" where neither
    paper nor released code say so"""
    note: str = ""
    """about all of its figures"""
    baselines: str = ""
    """about those of other methods than its own"""


@dataclass(frozen=True)
class PublishedTable:
    """One dataset's part of a paper's table."""

    paper: str
    """the module of the paper's own method"""
    place: str
    """"Table II\""""
    printed: str
    """the dataset as the paper calls it"""
    dataset: str
    """the dataset as the builders call it"""
    metric: str
    decimals: int
    """digits behind the point that the paper prints, of fractions of 1"""
    rows: Mapping[str, tuple[float, ...]]
    """method, or in ablations the row's name as printed -> a value for each direction"""
    directions: tuple[str, ...] = BOTH_WAYS
    samples: Mapping[str, int] = field(default_factory=dict)
    """split -> its size; without the splits whose size the paper does not state"""
    classes: int | None = None
    notes: tuple[str, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)
    """"ROW DIRECTION" -> what is doubtful about this figure"""

    @property
    def source(self) -> str:
        return f"{method_title(self.paper)}, {self.place}"

    def figures(self, row: str) -> dict[str, str]:
        """Direction -> value, with the digits that are printed; none where the table has no such row."""
        values = self.rows.get(row, ())
        return {direction: f"{value:.{self.decimals}f}" for direction, value in zip(self.directions, values)}


@cache
def papers() -> Mapping[str, Paper]:
    """By the module of the paper's own method."""
    return {name: Paper(**fields) for name, fields in _document()["papers"].items()}


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Those of methods, in the order of the file.

    Raises:
        XmrError: the file has a row of another length than its directions.
    """
    return _tables("tables")


@cache
def published_ablations() -> tuple[PublishedTable, ...]:
    """Those in which a paper varies its own method, or puts a part of it elsewhere, in the order of the file.

    Raises:
        XmrError: as for `published_tables`.
    """
    return _tables("ablations")


def _tables(kind: str) -> tuple[PublishedTable, ...]:
    tables = tuple(_table(fields) for fields in _document()[kind])
    for table in tables:
        for row, values in table.rows.items():
            if len(values) != len(table.directions):
                raise XmrError(f"published.toml: {table.source}, {table.printed}: {row} has {len(values)} values")
    return tables


def _table(document: Mapping[str, Any]) -> PublishedTable:
    fields = dict(document)
    for name in fields.keys() & {"directions", "notes"}:
        fields[name] = tuple(fields[name])
    fields["rows"] = {method: tuple(values) for method, values in fields["rows"].items()}
    return PublishedTable(**fields)


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text("utf-8"))
