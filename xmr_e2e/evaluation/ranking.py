"""Exact rankings of a gallery for each query, a chunk of queries at a time.

Tie rule: items with equal scores rank in gallery order (a stable descending sort).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Similarity

Array: TypeAlias = Tensor | np.ndarray[Any, Any]

# Scores held at a time: 32 MB in fp32. With the sort and the metrics a chunk peaks at roughly ten times that.
CHUNK_SCORES = 2**23


@dataclass(frozen=True)
class RankedChunk:
    """The rankings of m consecutive queries over a gallery of N items, best first."""

    rows: slice
    """Which queries these are."""
    indices: Tensor
    """(m, N) int64: the gallery index at each rank."""
    relevance: Tensor
    """(m, N) fp32: labels shared by the query and the item at each rank; above 0 is relevant."""


def ranked_relevance(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    similarity: Similarity = "cosine",
    chunk: int | None = None,
) -> Iterator[RankedChunk]:
    """Rank the whole gallery for each query, computed on the queries' device.

    queries: (n, d), gallery: (N, d) embeddings of any float type. Labels: (n,) integer classes or (n, c) multi-hot,
    the same form on both sides. similarity: "cosine", "pearson" (cosine of rows centred on their own mean), "dot" or
    "euclidean" (negative distance). chunk: queries ranked at a time; None bounds the memory by CHUNK_SCORES.
    Scores are fp32, accumulated in fp64. Beside a chunk, the embeddings are held in fp64.
    Raises XmrError for NaN or infinite embeddings, ValueError for shapes that do not fit.
    """
    query, items = _embedding_pair(queries, gallery, similarity)
    device = query.device
    labels = _label_pair(query_labels, gallery_labels, device)
    if (len(labels[0]), len(labels[1])) != (len(query), len(items)):
        raise ValueError(
            f"{len(query)} queries and {len(items)} items have {len(labels[0])} and {len(labels[1])} labels"
        )
    return _ranked(lambda rows: _scores(query[rows], items, similarity), *labels, chunk)


def nearest(
    queries: Array, gallery: Array, *, similarity: Similarity = "cosine", k: int | None = None
) -> tuple[Tensor, Tensor]:
    """The first k items of each query's ranking, in the order in which the metrics rank them.

    queries: (n, d), gallery: (N, d) embeddings. k: None ranks the whole gallery.
    Returns gallery indices (n, k) int64 and scores (n, k) fp32, best first; n * N scores are held at once.
    Raises XmrError for NaN or infinite embeddings, ValueError for shapes that do not fit.
    """
    ranked = _scores(*_embedding_pair(queries, gallery, similarity), similarity).sort(
        dim=1, descending=True, stable=True
    )
    return ranked.indices[:, :k], ranked.values[:, :k]


def random_relevance(
    query_labels: Array, gallery_labels: Array, *, seed: int, chunk: int | None = None
) -> Iterator[RankedChunk]:
    """Rank the gallery in an independent random order for each query: the floor that every figure stands on.

    The rankings depend on the seed and the two sizes alone, not on the chunk or the device.
    """
    device = query_labels.device if isinstance(query_labels, Tensor) else torch.device("cpu")
    query, items = _label_pair(query_labels, gallery_labels, device)
    generator = torch.Generator().manual_seed(seed)

    def scores(rows: slice) -> Tensor:
        # fp64: fp32 draws collide in a large gallery, and ties would favour its first items
        return torch.rand(rows.stop - rows.start, len(items), dtype=torch.float64, generator=generator).to(device)

    return _ranked(scores, query, items, chunk)


def _ranked(
    scores: Callable[[slice], Tensor], query_labels: Tensor, gallery_labels: Tensor, chunk: int | None
) -> Iterator[RankedChunk]:
    count = len(query_labels)
    size = chunk or max(1, CHUNK_SCORES // len(gallery_labels))
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        indices = scores(rows).argsort(dim=1, descending=True, stable=True)
        yield RankedChunk(rows, indices, _shared_labels(query_labels[rows], gallery_labels).gather(1, indices))


def _embedding_pair(queries: Array, gallery: Array, similarity: Similarity) -> tuple[Tensor, Tensor]:
    """Both sides in fp64 on the queries' device, ready for `_scores`."""
    device = queries.device if isinstance(queries, Tensor) else torch.device("cpu")
    query = _prepared(_embeddings(queries, "queries", device), similarity)
    items = _prepared(_embeddings(gallery, "gallery", device), similarity)
    if query.shape[1] != items.shape[1]:
        raise ValueError(f"queries have {query.shape[1]} dimensions and the gallery {items.shape[1]}")
    return query, items


def _prepared(x: Tensor, similarity: Similarity) -> Tensor:
    if similarity == "cosine":
        return F.normalize(x, dim=1)
    if similarity == "pearson":
        return F.normalize(x - x.mean(1, keepdim=True), dim=1)
    if similarity in ("dot", "euclidean"):
        return x
    raise ValueError(f"similarity {similarity!r} is not one of cosine, pearson, dot, euclidean")


def _scores(queries: Tensor, gallery: Tensor, similarity: Similarity) -> Tensor:
    # fp64 sums rounded to fp32: autocast, TF32 and the order of summation, which changes with the chunk, hardly ever
    # move a rank, and identical items tie
    if similarity == "euclidean":
        return -torch.cdist(queries, gallery, compute_mode="donot_use_mm_for_euclid_dist").float()
    return (queries @ gallery.T).float()


def _shared_labels(queries: Tensor, gallery: Tensor) -> Tensor:
    if queries.ndim == 1:
        return (queries[:, None] == gallery).float()
    return (queries @ gallery.T).float()


def _embeddings(values: Array, name: str, device: torch.device) -> Tensor:
    x = torch.as_tensor(values, device=device).detach().double()
    if x.ndim != 2 or not len(x):
        raise ValueError(f"{name} must be (n, d) with n > 0, got {tuple(x.shape)}")
    bad = ~x.isfinite().all(1)
    if bad.any():
        raise XmrError(
            f"{name}: {int(bad.sum())} of {len(x)} embeddings hold NaN or infinite values (first: row "
            f"{int(bad.nonzero()[0])}). The training has probably diverged: lower the learning rate, "
            "or evaluate an earlier checkpoint."
        )
    return x


def _label_pair(query_labels: Array, gallery_labels: Array, device: torch.device) -> tuple[Tensor, Tensor]:
    query, gallery = _labels(query_labels, device), _labels(gallery_labels, device)
    if query.shape[1:] != gallery.shape[1:]:
        raise ValueError(f"labels of queries {tuple(query.shape)} and gallery {tuple(gallery.shape)} do not match")
    return query, gallery


def _labels(values: Array, device: torch.device) -> Tensor:
    labels = torch.as_tensor(values, device=device).detach()
    if labels.ndim == 1 and len(labels) and not labels.is_floating_point():
        return labels.long()
    if labels.ndim == 2 and len(labels) and bool(((labels == 0) | (labels == 1)).all()):
        return labels.double()
    raise ValueError(f"labels must be (n,) integers or (n, c) of 0 and 1, got {tuple(labels.shape)} {labels.dtype}")
