"""The best-scored items of a gallery, for a few queries, with their scores."""

from __future__ import annotations

import torch
from torch import Tensor

from xmr_e2e.evaluation.ranking import Array, _embeddings, _prepared, _scores
from xmr_e2e.methods.base import Similarity


def nearest(
    queries: Array, gallery: Array, *, similarity: Similarity = "cosine", k: int | None = None
) -> tuple[Tensor, Tensor]:
    """The first k items of each query's ranking, in the order in which the metrics rank them.

    queries: (n, d), gallery: (N, d) embeddings. k: None ranks the whole gallery.
    Returns gallery indices (n, k) int64 and scores (n, k) fp32, best first, on the queries' device; n * N scores are
    held at once. Equal scores rank in gallery order.
    Raises XmrError for NaN or infinite embeddings, ValueError for shapes that do not fit.
    """
    device = queries.device if isinstance(queries, Tensor) else torch.device("cpu")
    query = _prepared(_embeddings(queries, "queries", device), similarity)
    items = _prepared(_embeddings(gallery, "gallery", device), similarity)
    if query.shape[1] != items.shape[1]:
        raise ValueError(f"queries have {query.shape[1]} dimensions and the gallery {items.shape[1]}")
    ranked = _scores(query, items, similarity).sort(dim=1, descending=True, stable=True)
    return ranked.indices[:, :k], ranked.values[:, :k]
