"""Retrieval metrics over exact rankings: fractions in [0, 1], accumulated in fp64.

Relevant = sharing at least one label. Labels are (n,) integer classes or (n, c) multi-hot, arrays or tensors.
A query with no relevant item in the gallery counts 0 and stays in the mean; result files say how many there were.
Equal scores rank in gallery order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.evaluation.per_query import (
    RECALL_STEPS,
    Normaliser,
    average_precision,
    found,
    interpolated_precision,
    normalised_gain,
)
from xmr_e2e.evaluation.ranking import Array, RankedChunk, Similarity, random_relevance, ranked_relevance

Ids: TypeAlias = Sequence[str] | Sequence[int] | np.ndarray[Any, Any]


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Mean interpolated precision at fixed levels of recall."""

    recall: list[float]
    precision: list[float]


@dataclass(frozen=True)
class Measures:
    """Which figures a single pass over the rankings measures."""

    normaliser: Normaliser = "relevant_in_top_k"
    """of average precision; see `mean_average_precision`"""
    map_ks: tuple[int, ...] = (50,)
    """the cutoffs of mAP, beside mAP@all"""
    ndcg_ks: tuple[int, ...] = (500,)
    recall_ks: tuple[int, ...] = (1, 5, 10)

    @property
    def names(self) -> tuple[str, ...]:
        """The scores' names: "mAP@all", "mAP@50", …"""
        by_label = ("mAP@all", *(f"mAP@{k}" for k in self.map_ks), *(f"NDCG@{k}" for k in self.ndcg_ks))
        return (*by_label, *(f"R@{k}" for k in self.recall_ks))


@dataclass(frozen=True)
class RetrievalFigures:
    """What one direction of retrieval measured."""

    scores: dict[str, float]
    """"mAP@all", "mAP@k" and "NDCG@k" by labels. "R@k" by pair: the share of the queries with a pair in the gallery
    that have it among the first k; missing where no query has one."""
    curve: PrecisionRecallCurve
    queries: int
    gallery: int
    queries_with_pair: int
    """Queries whose own id is in the gallery."""
    queries_without_relevant: int
    """Queries that share no label with any item: they count 0 in mAP, in NDCG and in the curve."""


def mean_average_precision(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    k: int | None = None,
    similarity: Similarity = "cosine",
    normaliser: Normaliser = "relevant_in_top_k",
    chunk: int | None = None,
) -> float:
    """Mean over queries of AP@k = sum over ranks r <= k of precision(r) relevant(r), divided by the normaliser.

    k: None ranks the whole gallery. normaliser, per query: "relevant_in_top_k", the relevant items among the first k
    (the convention of ACMR and DRCL); "all_relevant", those in the gallery; "min_k_relevant", the lesser of k and
    those in the gallery. At k=None the three are the same. Other arguments and errors: see `ranked_relevance`.
    """
    chunks = ranked_relevance(queries, gallery, query_labels, gallery_labels, similarity=similarity, chunk=chunk)
    return _mean(average_precision(ranked.relevance, k, normaliser) for ranked in chunks)


def ndcg(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    k: int | None = 500,
    similarity: Similarity = "cosine",
    chunk: int | None = None,
) -> float:
    """Mean over queries of NDCG@k: linear gain (number of shared labels), discount 1 / log2(rank + 1).

    The ideal ranking is that of the whole gallery, cut at k. Other arguments and errors: see `ranked_relevance`.
    """
    chunks = ranked_relevance(queries, gallery, query_labels, gallery_labels, similarity=similarity, chunk=chunk)
    return _mean(normalised_gain(ranked.relevance, k) for ranked in chunks)


def recall_at_k(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    k: int,
    similarity: Similarity = "cosine",
    chunk: int | None = None,
) -> float:
    """Share of queries with at least one relevant item among the first k.

    Item numbers as labels give the pair-based Recall@K. Other arguments and errors: see `ranked_relevance`.
    """
    chunks = ranked_relevance(queries, gallery, query_labels, gallery_labels, similarity=similarity, chunk=chunk)
    return _mean(found(ranked.relevance > 0, k) for ranked in chunks)


def precision_recall_curve(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    similarity: Similarity = "cosine",
    chunk: int | None = None,
) -> PrecisionRecallCurve:
    """Mean over queries of the interpolated precision at recall 0, 0.05, ..., 1.

    Interpolated as in TREC: at each level, the highest precision at any rank whose recall reaches the level.
    Other arguments and errors: see `ranked_relevance`.
    """
    chunks = ranked_relevance(queries, gallery, query_labels, gallery_labels, similarity=similarity, chunk=chunk)
    return _curve([interpolated_precision(ranked.relevance) for ranked in chunks])


def retrieval_figures(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    similarity: Similarity = "cosine",
    measures: Measures = Measures(),
    chunk: int | None = None,
) -> RetrievalFigures:
    """All figures of one direction from a single pass over the rankings.

    *_ids: one string or integer per item; a query and a gallery item with the same id are a pair, and an id may have
    several gallery items (captions). Other arguments and errors: see `ranked_relevance`.
    """
    chunks = ranked_relevance(queries, gallery, query_labels, gallery_labels, similarity=similarity, chunk=chunk)
    return _figures(chunks, _Pairing.of(query_ids, gallery_ids, len(queries), len(gallery)), measures)


def random_figures(
    query_labels: Array,
    gallery_labels: Array,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    seeds: Sequence[int],
    measures: Measures = Measures(),
    chunk: int | None = None,
) -> RetrievalFigures:
    """The mean of `retrieval_figures` over random rankings, one per seed: the row to read beside a model's."""
    pairing = _Pairing.of(query_ids, gallery_ids, len(query_labels), len(gallery_labels))
    rankings = (random_relevance(query_labels, gallery_labels, seed=seed, chunk=chunk) for seed in seeds)
    runs = [_figures(chunks, pairing, measures) for chunks in rankings]
    precision = np.mean([run.curve.precision for run in runs], axis=0).tolist()
    return replace(
        runs[0],
        scores=average_scores([run.scores for run in runs]),
        curve=PrecisionRecallCurve(runs[0].curve.recall, precision),
    )


def average_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over those that have it."""
    names = dict.fromkeys(name for each in scores for name in each)
    return {name: float(np.mean([each[name] for each in scores if name in each])) for name in names}


@dataclass(frozen=True)
class _Pairing:
    """Ids as integers, equal where the ids are equal."""

    query: Tensor
    gallery: Tensor

    @classmethod
    def of(cls, query_ids: Ids, gallery_ids: Ids, queries: int, gallery: int) -> _Pairing:
        if (len(query_ids), len(gallery_ids)) != (queries, gallery):
            raise ValueError(f"{queries} queries and {gallery} items have {len(query_ids)} and {len(gallery_ids)} ids")
        _, codes = np.unique(np.concatenate([np.asarray(query_ids), np.asarray(gallery_ids)]), return_inverse=True)
        return cls(torch.from_numpy(codes[:queries]), torch.from_numpy(codes[queries:]))

    def relevance(self, ranked: RankedChunk, k: int) -> Tensor:
        """(m, k) bool: whether the item at each of the first k ranks has the query's id."""
        return self.gallery[ranked.indices[:, :k].cpu()] == self.query[ranked.rows, None]


def _figures(chunks: Iterator[RankedChunk], pairing: _Pairing, measures: Measures) -> RetrievalFigures:
    per_query: defaultdict[str, list[Tensor]] = defaultdict(list)
    precision: list[Tensor] = []
    without_relevant = 0
    has_pair = torch.isin(pairing.query, pairing.gallery)
    recall_ks = measures.recall_ks if has_pair.any() else ()
    for ranked in chunks:
        for k in (None, *measures.map_ks):
            name = f"mAP@{'all' if k is None else k}"
            per_query[name].append(average_precision(ranked.relevance, k, measures.normaliser))
        for k in measures.ndcg_ks:
            per_query[f"NDCG@{k}"].append(normalised_gain(ranked.relevance, k))
        paired = pairing.relevance(ranked, max(recall_ks, default=1))[has_pair[ranked.rows]]
        for k in recall_ks:
            per_query[f"R@{k}"].append(found(paired, k))
        precision.append(interpolated_precision(ranked.relevance))
        without_relevant += int((ranked.relevance == 0).all(1).sum())
    return RetrievalFigures(
        scores={name: _mean(values) for name, values in per_query.items()},
        curve=_curve(precision),
        queries=len(pairing.query),
        gallery=len(pairing.gallery),
        queries_with_pair=int(has_pair.sum()),
        queries_without_relevant=without_relevant,
    )


def _mean(per_query: Iterable[Tensor]) -> float:
    return torch.cat(list(per_query)).mean().item()


def _curve(precision: list[Tensor]) -> PrecisionRecallCurve:
    recall = [step / RECALL_STEPS for step in range(RECALL_STEPS + 1)]
    return PrecisionRecallCurve(recall, torch.cat(precision).mean(0).tolist())
