"""Per-query measures of ranked relevance, vectorised over a chunk of queries.

relevance: (m, N) shared labels in rank order, above 0 is relevant. Each function returns fp64, one row per query;
a query with no relevant item gets 0. Raises ValueError for k < 1.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Normaliser: TypeAlias = Literal["relevant_in_top_k", "all_relevant", "min_k_relevant"]

RECALL_STEPS = 20  # the precision-recall curve has a point at each 1/20 of recall


def average_precision(relevance: Tensor, k: int | None, normaliser: Normaliser) -> Tensor:
    """AP@k; the normalisers are explained at `metrics.mean_average_precision`."""
    relevant = relevance > 0
    top = relevant[:, : _cutoff(k, relevant)]
    total = (top * _precision(top)).sum(1)
    if normaliser == "relevant_in_top_k":
        divisor = top.sum(1)
    elif normaliser == "all_relevant":
        divisor = relevant.sum(1)
    elif normaliser == "min_k_relevant":
        divisor = relevant.sum(1).clamp(max=top.shape[1])
    else:
        raise ValueError(f"normaliser {normaliser!r} is not one of relevant_in_top_k, all_relevant, min_k_relevant")
    return total / divisor.clamp(min=1)


def normalised_gain(relevance: Tensor, k: int | None) -> Tensor:
    """NDCG@k with linear gain."""
    cutoff = _cutoff(k, relevance)
    discount = 1 / torch.log2(_ranks(cutoff, relevance.device) + 1)
    gain = relevance[:, :cutoff].double() @ discount
    ideal = relevance.topk(cutoff, dim=1).values.double() @ discount
    return torch.where(ideal > 0, gain / ideal, 0.0)


def found(relevant: Tensor, k: int) -> Tensor:
    """1 where any of the first k is relevant, else 0."""
    return relevant[:, : _cutoff(k, relevant)].any(1).double()


def interpolated_precision(relevance: Tensor) -> Tensor:
    """(m, RECALL_STEPS + 1): the highest precision at or after the first rank that reaches each level."""
    relevant = relevance > 0
    best_from_here = _precision(relevant).flip(1).cummax(1).values.flip(1)
    steps = torch.arange(RECALL_STEPS + 1, device=relevance.device)
    # in integers, where the ceiling is exact: a rounded-up level would ask for one hit too many
    hits_needed = (relevant.sum(1, keepdim=True) * steps + RECALL_STEPS - 1) // RECALL_STEPS
    return best_from_here.gather(1, torch.searchsorted(relevant.cumsum(1), hits_needed))


def _precision(relevant: Tensor) -> Tensor:
    return relevant.cumsum(1) / _ranks(relevant.shape[1], relevant.device)


def _ranks(count: int, device: torch.device) -> Tensor:
    return torch.arange(1, count + 1, dtype=torch.float64, device=device)


def _cutoff(k: int | None, ranked: Tensor) -> int:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return ranked.shape[1] if k is None else min(k, ranked.shape[1])
