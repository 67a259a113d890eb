"""Published figures beside a study's rows: those of the paper's own table on the same dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xmr_e2e.errors import XmrError
from xmr_e2e.studies.compare import Cell, published_cells
from xmr_e2e.studies.groups import Group
from xmr_e2e.studies.marks import family, marks_of_published
from xmr_e2e.studies.published import PublishedTable, published_ablations
from xmr_e2e.studies.runs import SPLITS, Setting


@dataclass(frozen=True)
class PublishedRow:
    """A row's figures in one published table."""

    name: str
    """published; of several tables, with the dataset as the paper calls it"""
    source: str
    """paper, table and dataset"""
    cells: Mapping[str, Cell]
    """direction -> figure, where there is one"""
    marks: tuple[str, ...]
    """differences between what was published and what was measured, in sentences"""


def named_tables(name: str) -> list[PublishedTable]:
    """The published ablations that a study names, such as "dscmr, Table 6": one for each dataset.

    Raises:
        XmrError: there are none.
    """
    by_name = {f"{table.paper}, {table.place}": table.place for table in published_ablations()}
    if name not in by_name:
        raise XmrError(f"published {name!r}: no such table; there are {'; '.join(by_name)}")
    return [table for table in published_ablations() if f"{table.paper}, {table.place}" == name]


def tables_beside(name: str, setting: Setting, metric: str) -> tuple[PublishedTable, ...]:
    """Those of a study's published tables that have the dataset and the metric: of several, those with as many test
    samples, if there are any."""
    found = [
        table
        for table in named_tables(name)
        if family(table.dataset) == family(setting.dataset) and table.metric == metric
    ]
    measured = setting.sizes[SPLITS.index("test")]
    return tuple([table for table in found if table.samples.get("test") == measured] or found)


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
            name = f"published, {table.printed}" if len(tables) > 1 else "published"
            found.append(PublishedRow(name, f"{table.source}, {table.printed}", cells, tuple(marks)))
    return found
