"""Confusion between classes: of which class are the items that queries of a class find first?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.evaluation.classes import one_hot
from xmr_e2e.evaluation.inspection import FIRST, Inspected


@dataclass(frozen=True)
class Confusion:
    """Of one direction, over c classes."""

    direction: str
    shares: NDArray[np.float64]
    """(c, c): row a, column b is the share of items with label b among the first k, the mean over the queries with
    label a. Where samples have one label, a row adds up to 1. NaN: no query has the label."""
    random: NDArray[np.float64]
    """(c,) the share of items with each label in the whole gallery: what random rankings find"""
    k: int
    queries: int
    is_multi_label: bool

    def largest(self, count: int) -> list[tuple[int, int, float]]:
        """The pairs of different classes a, b with the largest shares above random, with the share; largest first."""
        excess = np.nan_to_num(self.shares - self.random)
        np.fill_diagonal(excess, 0)
        order = np.argsort(-excess, axis=None, kind="stable")[:count]
        places = [divmod(int(place), len(excess)) for place in order]
        return [(a, b, float(self.shares[a, b])) for a, b in places if excess[a, b] > 0]


def confusion(inspected: Inspected) -> Confusion:
    """The confusion between classes in one direction.

    k is the median number of items of a class in the gallery, at most FIRST: a perfect model has about 1 on the
    diagonal. A sample of several labels counts for each of them, as query and as item.
    """
    queries, items = one_hot(inspected.queries.labels)[inspected.rows], one_hot(inspected.items.labels)
    classes = max(queries.shape[1], items.shape[1])
    queries, items = (np.pad(rows, ((0, 0), (0, classes - rows.shape[1]))) for rows in (queries, items))
    counts = items.sum(0)
    k = min(FIRST, len(items), max(1, int(np.median(counts[counts > 0]))))
    found = items[inspected.first[:, :k]].mean(1)  # (m, c)
    with np.errstate(invalid="ignore"):  # a class without queries: 0 / 0 is the NaN that is meant
        shares = queries.T @ found / queries.sum(0)[:, None]
    return Confusion(inspected.direction, shares, items.mean(0), k, len(queries), bool((items.sum(1) > 1).any()))
