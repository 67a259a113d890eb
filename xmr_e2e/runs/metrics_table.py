"""Figures of a result as a table of a terminal, beside those of random rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xmr_e2e.evaluation.directions import (
    OTHERS,
    RSUM,
    CrossModalMetrics,
    direction_name,
    direction_title,
    modality_title,
)

SHOWN = ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@10")
SHOWN_WITHOUT_LABELS = ("R@1", "R@5", "R@10", "MedR", RSUM)
NO_FRACTIONS = ("MedR", RSUM)
MOST_BLOCKS = 6
"""directions that have a block of lines each: those of three modalities. With more, they are cells of a matrix"""

Block = tuple[str, Mapping[str, float], Mapping[str, float]]
"""heading, the model's scores, those of random rankings"""


def metrics_table(metrics: CrossModalMetrics) -> RenderableType:
    """Figures of each direction, of their average and of mixed pools, with those of random rankings and the ratios.

    Of more than MOST_BLOCKS directions, the main figure as a matrix, and all figures of the average.
    """
    shown = SHOWN if metrics.model.is_labeled else SHOWN_WITHOUT_LABELS
    average: Block = ("average", metrics.model.average, metrics.random.average)
    if len(metrics.model.directions) > MOST_BLOCKS:
        return Group(_matrix(metrics, shown[0]), _blocks([average], shown))
    directions, pools = (
        [_block(metrics, way) for way in names] for names in (metrics.model.directions, metrics.model.pools)
    )
    return _blocks([*directions, average, *pools], shown)


def _block(metrics: CrossModalMetrics, way: str) -> Block:
    return direction_title(way), metrics.model.rows[way].scores, metrics.random.rows[way].scores


def _blocks(blocks: Sequence[Block], shown: Sequence[str]) -> Table:
    """Three lines for each."""
    table = Table("direction", box=box.SIMPLE_HEAD)
    for name in shown:
        table.add_column(name, justify="right")
    for heading, model, floor in blocks:
        ratios = {name: model[name] / floor[name] for name in shown if name in model and floor.get(name)}
        ratios.pop("MedR", None)  # of ranks, which are better where they are lower
        table.add_row(heading, *_cells(model, shown, "{:.4f}"), style="bold")
        table.add_row("random", *_cells(floor, shown, "{:.4f}"), style="dim")
        table.add_row("times random", *_cells(ratios, shown, "{:.1f}x"), style="dim", end_section=True)
    return table


def _cells(scores: Mapping[str, float], shown: Sequence[str], form: str) -> Iterator[str]:
    forms = {name: "{:,.1f}" for name in NO_FRACTIONS} if form == "{:.4f}" else {}
    return (forms.get(name, form).format(scores[name]) if name in scores else "–" for name in shown)


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
    _, model, floor = _block(metrics, way)
    if name not in model:
        return Text("–")
    times = f"\n{model[name] / floor[name]:.1f}x" if floor.get(name) else ""
    return Text.assemble((f"{model[name]:.4f}", "bold"), (times, "dim"))
