"""All figures of an evaluation as one table, for spreadsheets and for programs that draw them otherwise."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from xmr_e2e.escape import csv_cell
from xmr_e2e.evaluation.figures import CrossModalMetrics, RetrievalMetrics

COLUMNS = ("direction", "kind", "at", "model", "random", "standard_error")
Row = tuple[str, str | int | float, float, float | None, float | None]


def metrics_csv(metrics: CrossModalMetrics, classes: Sequence[str]) -> str:
    """A row for each score, point of a curve and class of each direction and mixed pool. classes: their names."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    random = metrics.random.rows
    for direction, model in metrics.model.rows.items():
        for row in _rows(model, random[direction], classes):
            writer.writerow(map(csv_cell, [direction, *row]))
    for name, value in metrics.model.average.items():
        writer.writerow(["average", "score", name, value, metrics.random.average.get(name), None])
    return stream.getvalue()


def _rows(model: RetrievalMetrics, random: RetrievalMetrics, classes: Sequence[str]) -> Iterator[Row]:
    for name, value in model.scores.items():
        yield "score", name, value, random.scores.get(name), model.standard_errors.get(name)
    for level, ours, theirs in zip(model.curve.recall, model.curve.precision, random.curve.precision):
        yield "precision at recall", level, ours, theirs, None
    for k, ours, theirs in zip(model.scope.k, model.scope.precision, random.scope.precision):
        yield "precision at scope", k, ours, theirs, None
    for each, value in model.per_class.items():
        yield "mAP@all of class", classes[each], value, random.per_class.get(each), None
