"""Figures of a result as a table of a terminal, beside those of random rankings."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xmr_e2e.evaluation.figures import OTHERS, CrossModalMetrics, direction_name, modality_title
from xmr_e2e.evaluation.shown import ShownRow, average_row, ratio_cells, row_of, score_cells, shown_rows, shown_scores

MOST_BLOCKS = 6
"""directions that have a block of lines each: those of three modalities. With more, they are cells of a matrix"""


def metrics_table(metrics: CrossModalMetrics) -> RenderableType:
    """Figures of each direction, of their average and of mixed pools, with those of random rankings and the ratios.

    Of more than MOST_BLOCKS directions, the main figure as a matrix, and all figures of the average.
    """
    shown = shown_scores(metrics)
    if len(metrics.model.directions) > MOST_BLOCKS:
        return Group(_matrix(metrics, shown[0]), _blocks([average_row(metrics)], shown))
    return _blocks(shown_rows(metrics), shown)


def _blocks(rows: Sequence[ShownRow], shown: Sequence[str]) -> Table:
    """Three lines for each."""
    table = Table("direction", box=box.SIMPLE_HEAD)
    for name in shown:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.title, *score_cells(row.model, shown), style="bold")
        table.add_row("random", *score_cells(row.random, shown), style="dim")
        table.add_row("times random", *ratio_cells(row, shown), style="dim", end_section=True)
    return table


def _matrix(metrics: CrossModalMetrics, name: str) -> Table:
    """One figure: a row for each modality of the queries, a column for each gallery; below it, the times random."""
    modalities = metrics.model.modalities
    galleries = (*modalities, *([OTHERS] if metrics.model.pools else []))
    table = Table("query", box=box.SIMPLE_HEAD, title=f"{name} by gallery, and times random", title_justify="left")
    for gallery in galleries:
        table.add_column(modality_title(gallery), justify="right")
    for query in modalities:
        table.add_row(modality_title(query), *(_matrix_cell(metrics, query, gallery, name) for gallery in galleries))
    return table


def _matrix_cell(metrics: CrossModalMetrics, query: str, gallery: str, name: str) -> Text:
    way = direction_name(query, gallery)
    if way not in metrics.model.rows:
        return Text("")
    row = row_of(metrics, way)
    if name not in row.model:
        return Text("–")
    times = f"\n{row.ratios[name]:.1f}x" if name in row.ratios else ""
    return Text.assemble((f"{row.model[name]:.4f}", "bold"), (times, "dim"))
