"""Published figures beside a study's rows: those of the paper's own table on the same dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.discovery import method_title
from xmr_e2e.studies.compare import Cell, published_cells
from xmr_e2e.studies.groups import Group
from xmr_e2e.studies.marks import family, marks_of_published
from xmr_e2e.studies.published import PublishedTable, published_ablations, published_tables
from xmr_e2e.studies.runs import SPLITS, Setting

METHODS = "methods"
"""in place of a table, for a study whose rows are methods: what all papers print of these on the dataset"""


@dataclass(frozen=True)
class PublishedRow:
    """A row's figures in one published table."""

    name: str
    """published; of several tables with the paper, or of several of one paper with the dataset as it calls it"""
    source: str
    """paper, table and dataset"""
    cells: Mapping[str, Cell]
    """direction -> figure, where there is one"""
    marks: tuple[str, ...]
    """differences between what was published and what was measured, in sentences"""


def named_tables(name: str) -> list[PublishedTable]:
    """The published ablations that a study names, such as "dscmr, Table 6": one for each dataset. For `METHODS`, all
    tables of methods, whose rows then have the methods' titles.

    Raises:
        XmrError: there are none.
    """
    if name == METHODS:
        return [_by_title(table) for table in published_tables()]
    by_name = {f"{table.paper}, {table.place}": table.place for table in published_ablations()}
    if name not in by_name:
        raise XmrError(f"published {name!r}: no such table; there are {'; '.join(by_name)}; {METHODS}")
    return [table for table in published_ablations() if f"{table.paper}, {table.place}" == name]


def _by_title(table: PublishedTable) -> PublishedTable:
    rows = {method_title(name): figures for name, figures in table.rows.items()}
    parted = {name.partition(" "): doubt for name, doubt in table.doubts.items()}
    doubts = {f"{method_title(method)} {direction}": doubt for (method, _, direction), doubt in parted.items()}
    return replace(table, rows=rows, doubts=doubts)


def tables_beside(name: str, setting: Setting, metric: str) -> tuple[PublishedTable, ...]:
    """The published tables of a study that have the dataset, or another part of the same one, and the metric: of
    several that one paper has, those with as many test samples, if there are any."""
    known = [
        table
        for table in named_tables(name)
        if family(table.dataset) == family(setting.dataset) and table.metric == metric
    ]
    known = [table for table in known if table.dataset == setting.dataset] or known
    measured = setting.sizes[SPLITS.index("test")]
    alike = {table.paper for table in known if table.samples.get("test") == measured}
    return tuple(table for table in known if table.paper not in alike or table.samples.get("test") == measured)


def published_rows(
    tables: Sequence[PublishedTable], row: str, directions: Sequence[str], group: Group | None
) -> list[PublishedRow]:
    """A row of each table that has one of this name.

    Args:
        group: the measurements, with which the published ones may differ in more than figures.
    """
    found = []
    for table in tables:
        if cells := published_cells(table, row, directions):
            marks = marks_of_published(table, group.first.method, group) if group else ()
            found.append(PublishedRow(_name(table, tables), f"{table.source}, {table.printed}", cells, tuple(marks)))
    return found


def _name(table: PublishedTable, tables: Sequence[PublishedTable]) -> str:
    if len(tables) == 1:
        return "published"
    return f"published, {table.source if len({each.paper for each in tables}) > 1 else table.printed}"
