"""The figures of a result that are shown first, in a terminal and in a notebook: the model's beside those of random
rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xmr_e2e.evaluation.figures import RSUM, CrossModalMetrics, direction_title

SHOWN = ("mAP@all", "mAP@50", "NDCG@500", "R@1", "R@10")
SHOWN_WITHOUT_LABELS = ("R@1", "R@5", "R@10", "MedR", RSUM)
NO_FRACTIONS = ("MedR", RSUM)


@dataclass(frozen=True)
class ShownRow:
    """The scores of a direction, of a mixed pool or of the average."""

    title: str
    model: Mapping[str, float]
    random: Mapping[str, float]

    @property
    def ratios(self) -> dict[str, float]:
        """Times random; not of ranks, which are better where they are lower."""
        names = (name for name in self.model if self.random.get(name) and name != "MedR")
        return {name: self.model[name] / self.random[name] for name in names}


def shown_scores(metrics: CrossModalMetrics) -> tuple[str, ...]:
    """The names of the scores, by whether there were labels to measure by."""
    return SHOWN if metrics.model.is_labeled else SHOWN_WITHOUT_LABELS


def row_of(metrics: CrossModalMetrics, way: str) -> ShownRow:
    """A direction, or a mixed pool, by its name."""
    random = metrics.random.rows.get(way)  # of another's file, there may be none
    return ShownRow(direction_title(way), metrics.model.rows[way].scores, random.scores if random else {})


def average_row(metrics: CrossModalMetrics) -> ShownRow:
    """The average over the directions."""
    return ShownRow("average", metrics.model.average, metrics.random.average)


def shown_rows(metrics: CrossModalMetrics) -> list[ShownRow]:
    """All directions, their average, and mixed pools."""
    directions, pools = (
        [row_of(metrics, way) for way in names] for names in (metrics.model.directions, metrics.model.pools)
    )
    return [*directions, average_row(metrics), *pools]


def score_cells(scores: Mapping[str, float], shown: Sequence[str]) -> Iterator[str]:
    """Scores as they are written for people; a dash for those that there are not."""
    forms = {name: "{:,.1f}" for name in NO_FRACTIONS}
    return (forms.get(name, "{:.4f}").format(scores[name]) if name in scores else "–" for name in shown)


def ratio_cells(row: ShownRow, shown: Sequence[str]) -> Iterator[str]:
    """Times random, as it is written for people."""
    ratios = row.ratios
    return (f"{ratios[name]:.1f}x" if name in ratios else "–" for name in shown)
