"""Confusion between classes: of which class are the items that queries of a class find first?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from xmr_e2e.evaluation.classes import one_hot
from xmr_e2e.evaluation.inspection import FIRST, RankingSample

LARGEST = 50
"""pairs of classes that are kept, of those that are confused most often"""
MOST_CLASSES = 200
"""With more, only these pairs are kept: all shares would be a table of millions of cells that nobody reads."""


@dataclass(frozen=True)
class Confusion:
    """Of one direction, over c classes."""

    direction: str
    shares: NDArray[np.float64] | None
    """(c, c): row a, column b is the share of items with label b among the first k, the mean over the queries with
    label a. Where samples have one label, a row adds up to 1. NaN: no query has the label. None for more than
    MOST_CLASSES classes."""
    largest: tuple[tuple[int, int, float], ...]
    """the pairs of different classes a, b with the largest shares above random, with the share; largest first"""
    random: NDArray[np.float64]
    """(c,) the share of items with each label in the whole gallery: what random rankings find"""
    k: int
    queries: int
    is_multi_label: bool


def confusion(inspected: RankingSample) -> Confusion:
    """The confusion between classes in one direction.

    k is the median number of items of a class in the gallery, at most FIRST: a perfect model has about 1 on the
    diagonal. A sample of several labels counts for each of them, as query and as item.
    """
    queries, items = one_hot(inspected.queries.labels)[inspected.rows], one_hot(inspected.items.labels)
    classes = max(queries.shape[1], items.shape[1])
    sizes = items.sum(0)
    k = min(FIRST, len(items), max(1, int(np.median(sizes[sizes > 0])) if sizes.any() else 1))
    random = np.pad(items.mean(0), (0, classes - items.shape[1]))
    shares = _shares(csr_array(queries), csr_array(items), inspected.first[:, :k], classes)
    several = bool((items.sum(1) > 1).any())
    whole = None
    if classes <= MOST_CLASSES:
        whole = shares.toarray()
        whole[np.pad(queries.sum(0), (0, classes - queries.shape[1])) == 0] = np.nan
    return Confusion(inspected.direction, whole, tuple(_largest(shares, random)), random, k, len(queries), several)


def _shares(queries: csr_array, items: csr_array, first: NDArray[np.int64], classes: int) -> csr_array:
    """(c, c), without NaN: rows of classes that no query has are empty. queries: (m, c), items: (n, c) labels."""
    for labels in (queries, items):
        labels.resize(labels.shape[0], classes)
    count, k = first.shape
    starts = np.arange(0, count * k + 1, k)
    found = csr_array((np.ones(count * k), first.ravel(), starts), (count, items.shape[0])) @ items
    counts = (queries.T @ found).tocoo()
    return csr_array((counts.data / (k * queries.sum(0)[counts.coords[0]]), counts.coords), counts.shape)


def _largest(shares: csr_array, random: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    pairs = shares.tocoo()
    asked, found = pairs.coords
    excess = np.where(asked == found, 0.0, pairs.data - random[found])
    order = np.lexsort((found, asked, -excess))[:LARGEST]
    return [(int(asked[i]), int(found[i]), float(pairs.data[i])) for i in order if excess[i] > 0]
