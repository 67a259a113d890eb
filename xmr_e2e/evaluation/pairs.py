"""The items that belong to the same sample as a query, and the similarity of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.evaluation.scores import ROWS, Array, Prepared, slices

Ids: TypeAlias = Sequence[str] | Sequence[int] | np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pairs:
    """The P pairs of a query and an item with the same id, query by query."""

    queries: Tensor
    """(P,) int64, ascending"""
    items: Tensor
    """(P,) int64"""
    first: Tensor
    """(n + 1,) int64: the pairs of query q are those from first[q] to before first[q + 1]"""

    @classmethod
    def of(cls, query_ids: Ids, gallery_ids: Ids, shape: tuple[int, int], device: torch.device) -> Pairs:
        """All pairs of n queries and N items, whose ids are strings or integers; several items may have the same."""
        if (len(query_ids), len(gallery_ids)) != shape:
            raise ValueError(
                f"{shape[0]} queries and {shape[1]} items have {len(query_ids)} and {len(gallery_ids)} ids"
            )
        _, codes = np.unique(np.concatenate([np.asarray(query_ids), np.asarray(gallery_ids)]), return_inverse=True)
        asked, ranked = codes[: shape[0]], codes[shape[0] :]
        by_id = np.argsort(ranked, kind="stable")
        left, right = (np.searchsorted(ranked[by_id], asked, side) for side in ("left", "right"))
        first = np.concatenate([[0], np.cumsum(right - left)])
        queries = np.repeat(np.arange(shape[0]), right - left)
        items = by_id[np.arange(first[-1]) + np.repeat(left - first[:-1], right - left)]
        return cls(*(torch.from_numpy(each.astype(np.int64)).to(device) for each in (queries, items, first)))

    @property
    def has_pair(self) -> Tensor:
        """(n,) bool"""
        return self.first.diff() > 0

    def best_keys(self, keys: Tensor, rows: slice) -> Tensor:
        """The least key of each query's paired items: (m, 1) int64; of a query that has none, the largest int64.

        keys: (m, N) of the items, in gallery order, for the queries of `rows`.
        """
        own = slice(int(self.first[rows.start]), int(self.first[rows.stop]))
        queries, items = self.queries[own] - rows.start, self.items[own]
        best = torch.full((len(keys),), torch.iinfo(torch.int64).max, device=keys.device)
        return best.scatter_reduce_(0, queries, keys[queries, items], "amin")[:, None]


def mean_correlation(queries: Array, gallery: Array, pairs: Pairs) -> float:
    """The mean over the pairs of Pearson's correlation coefficient of their two embeddings."""
    asked, ranked = (
        Prepared(torch.as_tensor(rows).detach(), name, "pearson")
        for rows, name in ((queries, "queries"), (gallery, "gallery"))
    )
    parts = [
        (asked.rows(pairs.queries[part]) * ranked.rows(pairs.items[part])).sum(1)
        for part in slices(0, len(pairs.items), ROWS)
    ]
    return torch.cat(parts).mean().item()
