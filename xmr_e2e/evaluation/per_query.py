"""Per-query measures of ranked relevance, vectorised over a chunk of queries.

relevance: (m, N) integers, shared labels in rank order; above 0 is relevant. Each function returns fp64, one row per
query; a query with no relevant item gets 0. Raises ValueError for k < 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Normaliser: TypeAlias = Literal["relevant_in_top_k", "all_relevant", "min_k_relevant"]

RECALL_STEPS = 20  # the precision-recall curve has a point at each 1/20 of recall


@dataclass(frozen=True)
class Discount:
    """NDCG's discount, 1 / log2(stride (r - 1) + offset + 2) at rank r from 1; as it stands, 1 / log2(r + 1)."""

    stride: int = 1
    offsets: Tensor | None = None
    """(n,) of each query; None is 0 for all"""

    @property
    def words(self) -> str:
        """The divisor at rank r."""
        offset = "" if self.offsets is None else "i + "
        return "log2(r + 1)" if self == Discount() else f"log2({self.stride} (r - 1) + {offset}2)"

    def weights(self, rows: slice, k: int, device: torch.device) -> Tensor:
        """(m, k) for these queries, or (1, k) for all."""
        ranks = torch.arange(k, dtype=torch.float64, device=device)[None]
        offsets = 0 if self.offsets is None else self.offsets[rows, None].to(device)
        return 1 / torch.log2(self.stride * ranks + offsets + 2)


def average_precision(relevance: Tensor, k: int | None, normaliser: Normaliser) -> Tensor:
    """AP@k; the normalisers are explained at `metrics.mean_average_precision`."""
    cutoff = _cutoff(k, relevance)
    relevant = relevance[:, :cutoff].clamp(max=1)
    hits = relevant.cumsum(1, dtype=torch.int32)
    found = hits[:, -1].clone()
    total = hits.mul_(relevant).double().div_(_ranks(cutoff, relevance.device)).sum(1)  # of precision where relevant
    if normaliser == "relevant_in_top_k":
        divisor = found
    elif normaliser == "all_relevant":
        divisor = _count(relevance, 1)
    elif normaliser == "min_k_relevant":
        divisor = _count(relevance, 1).clamp(max=cutoff)
    else:
        raise ValueError(f"normaliser {normaliser!r} is not one of relevant_in_top_k, all_relevant, min_k_relevant")
    return total / divisor.clamp(min=1)


def normalized_gain(
    relevance: Tensor, k: int | None, discount: Discount = Discount(), rows: slice = slice(None)
) -> Tensor:
    """NDCG@k with linear gain. rows: which queries these are, for a discount that is not the same for all."""
    cutoff = _cutoff(k, relevance)
    weights = discount.weights(rows, cutoff, relevance.device)
    gain = (relevance[:, :cutoff] * weights).sum(1)
    # In the ideal ranking the items of gain g or more come first, and each gives one of its gain for every such g.
    ideal = torch.zeros_like(gain)
    summed = torch.nn.functional.pad(weights.cumsum(1), (1, 0)).expand(len(relevance), -1)
    for level in range(1, int(relevance.max()) + 1):
        count = _count(relevance, level).clamp(max=cutoff)
        ideal += summed.gather(1, count[:, None].long())[:, 0]
    return torch.where(ideal > 0, gain / ideal, 0.0)


def found(relevance: Tensor, k: int) -> Tensor:
    """1 where any of the first k is relevant, else 0."""
    return (relevance[:, : _cutoff(k, relevance)] > 0).any(1).double()


def precision_at(relevance: Tensor, ks: Sequence[int]) -> Tensor:
    """(m, len(ks)): the share of the first k that is relevant; no k is more than N."""
    cutoffs = torch.tensor(ks, dtype=torch.int64, device=relevance.device)
    return _hits(relevance[:, : max(ks, default=0)])[:, cutoffs - 1] / cutoffs.double()


def interpolated_precision(relevance: Tensor) -> Tensor:
    """(m, RECALL_STEPS + 1): the highest precision at or after the first rank that reaches each level."""
    hits = _hits(relevance)
    steps = torch.arange(RECALL_STEPS + 1, device=relevance.device)
    # in integers, where the ceiling is exact: a rounded-up level would ask for one hit too many
    needed = (hits[:, -1:] * steps + RECALL_STEPS - 1) // RECALL_STEPS
    reached = torch.searchsorted(hits, needed.clamp(min=1).int())
    # The best between one level's first rank and the next one's, and then from each level on.
    ends = torch.full_like(reached[:, :1], hits.shape[1])
    lengths = torch.cat([reached, ends], 1).diff(dim=1, prepend=torch.zeros_like(ends))
    precision = hits / _ranks(hits.shape[1], hits.device)
    best = torch.segment_reduce(precision.flatten(), "max", lengths=lengths.flatten(), initial=0)
    return best.view(lengths.shape)[:, 1:].flip(1).cummax(1).values.flip(1)


def _hits(relevance: Tensor) -> Tensor:
    """int32: the number of relevant items among the first 1, 2, 3, …"""
    return relevance.clamp(max=1).cumsum(1, dtype=torch.int32)


def _count(relevance: Tensor, level: int) -> Tensor:
    """(m,) the number of items whose relevance is as high as this."""
    return (relevance - (level - 1)).clamp_(0, 1).sum(1, dtype=torch.int32)


@lru_cache(maxsize=2)
def _ranks(count: int, device: torch.device) -> Tensor:
    """1, 2, 3, …: for a chunk of few queries, making them would take as long as using them."""
    return torch.arange(1, count + 1, dtype=torch.float64, device=device)


def _cutoff(k: int | None, ranked: Tensor) -> int:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return ranked.shape[1] if k is None else min(k, ranked.shape[1])
