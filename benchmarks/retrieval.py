"""The cost of the evaluation, against a ranking alone and against the loops of released scripts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from benchmarks.measure import REPEATS, Figure, Goal, Side, compare, on_cores, seconds
from xmr_e2e.evaluation.metrics import mean_average_precision

CLASSES = 10
CHUNK = 256
"""queries whose scores are held at a time"""


def evaluation(*, repeats: int = REPEATS, items: int = 20_000, dim: int = 512) -> Figure:
    """mAP@all, against the same scores (fp64 products) and their stable sort alone, a chunk of queries at a time.

    Args:
        repeats: of each measurement
        items: queries, and items of the gallery
        dim: of the embeddings
    """
    queries, gallery, labels = _embeddings(items, dim)

    def ours() -> float:
        return seconds(lambda: mean_average_precision(queries, gallery, labels, labels))

    def ranked() -> float:
        return seconds(lambda: _rank(queries, gallery))

    size = f"{items:,} x {items:,}, {dim} dimensions"
    return compare(
        "evaluation",
        Goal("at most", 1.3),
        Side(f"mAP@all, {size}", "s", ours),
        Side("chunked product and stable sort with indices", "s", ranked),
        repeats=repeats,
        warm=False,
    )


def released(*, repeats: int = REPEATS, items: int = 4_000, dim: int = 512) -> Figure:
    """mAP@all as released scripts have it, a full float64 matrix and Python loops, against ours; one core.

    Args:
        repeats: of each measurement
        items: queries, and items of the gallery
        dim: of the embeddings
    """
    queries, gallery, labels = _embeddings(items, dim)
    given = queries.numpy(), gallery.numpy(), labels.numpy()
    with on_cores(1):
        figure = compare(
            "released",
            Goal("at least", 20),
            Side(
                f"float64 matrix and Python loops, {items:,} x {items:,}", "s", lambda: seconds(lambda: _loops(*given))
            ),
            Side("mAP@all", "s", lambda: seconds(lambda: mean_average_precision(queries, gallery, labels, labels))),
            repeats=repeats,
            warm=False,
        )
        difference = abs(_loops(*given) - mean_average_precision(queries, gallery, labels, labels))
    return figure.note(f"the two differ by {difference:.1e}")


def _rank(queries: Tensor, gallery: Tensor) -> None:
    exact = torch.nn.functional.normalize(gallery.double())
    for chunk in torch.nn.functional.normalize(queries.double()).split(CHUNK):
        (chunk @ exact.T).float().sort(dim=1, descending=True, stable=True)


def _loops(queries: NDArray[np.float32], gallery: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Distances of all pairs at once, then each query's ranking rank by rank, looked up by number."""
    orders = cdist(queries.astype(np.float64), gallery.astype(np.float64), "cosine").argsort()
    found = []
    for query in range(len(queries)):
        order, hits, total = orders[query], 0.0, 0.0
        for rank in range(len(gallery)):
            if labels[query] == labels[order[rank]]:
                hits += 1
                total += hits / (rank + 1)
        found.append(total / hits if hits else 0.0)
    return float(np.mean(found))


def _embeddings(items: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random ones around a centre of each class, so that rankings are neither perfect nor chance."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (items,), generator=generator)
    centers = 0.1 * torch.randn(CLASSES, dim, generator=generator)
    queries, gallery = (centers[labels] + torch.randn(items, dim, generator=generator) for _ in range(2))
    return queries, gallery, labels
