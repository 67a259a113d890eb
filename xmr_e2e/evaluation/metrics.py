"""One figure of one direction of retrieval at a time; of several from one pass over the rankings, see `figures`.

Definitions: see `figures`. Called by every rank of a process group, each ranks a part of the queries.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from xmr_e2e.evaluation.figures import PrecisionRecallCurve
from xmr_e2e.evaluation.per_query import (
    Discount,
    Normaliser,
    average_precision,
    found,
    interpolated_precision,
    normalized_gain,
)
from xmr_e2e.evaluation.ranking import RankedChunk, model_ranking
from xmr_e2e.evaluation.scores import Array
from xmr_e2e.similarity import Similarity


def mean_average_precision(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    k: int | None = None,
    similarity: Similarity = "cosine",
    normaliser: Normaliser = "relevant_in_top_k",
) -> float:
    """Mean over queries of AP@k = sum over ranks r <= k of precision(r) relevant(r), divided by the normaliser.

    k: None ranks the whole gallery. normaliser, per query: "relevant_in_top_k", the relevant items among the first k
    (the convention of ACMR and DRCL); "all_relevant", those in the gallery; "min_k_relevant", the lesser of k and
    those in the gallery. At k=None the three are the same. Other arguments and errors: see `ranking.ranked_relevance`.
    """
    given = queries, gallery, query_labels, gallery_labels, similarity
    return _means(*given, lambda chunk: average_precision(chunk.relevance, k, normaliser)).item()


def ndcg(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    k: int | None = 500,
    similarity: Similarity = "cosine",
    discount: Discount = Discount(),
) -> float:
    """Mean over queries of NDCG@k: linear gain (number of shared labels), discount 1 / log2(rank + 1) or another.

    The ideal ranking is that of the whole gallery, cut at k. Other arguments and errors: see
    `ranking.ranked_relevance`.
    """
    given = queries, gallery, query_labels, gallery_labels, similarity
    return _means(*given, lambda chunk: normalized_gain(chunk.relevance, k, discount, chunk.rows)).item()


def recall_at_k(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    k: int,
    similarity: Similarity = "cosine",
) -> float:
    """Share of queries with at least one relevant item among the first k.

    Item numbers as labels give the pair-based Recall@K. Other arguments and errors: see `ranking.ranked_relevance`.
    """
    given = queries, gallery, query_labels, gallery_labels, similarity
    return _means(*given, lambda chunk: found(chunk.relevance, k)).item()


def precision_recall_curve(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    similarity: Similarity = "cosine",
) -> PrecisionRecallCurve:
    """Mean over queries of the interpolated precision at recall 0, 0.05, ..., 1.

    Interpolated as in TREC: at each level, the highest precision at any rank whose recall reaches the level.
    Other arguments and errors: see `ranking.ranked_relevance`.
    """
    given = queries, gallery, query_labels, gallery_labels, similarity
    return PrecisionRecallCurve.of(_means(*given, lambda chunk: interpolated_precision(chunk.relevance)).tolist())


def _means(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    similarity: Similarity,
    measure: Callable[[RankedChunk], Tensor],
) -> Tensor:
    """The mean over the queries of each column of a measure."""
    ranking = model_ranking(queries, gallery, query_labels, gallery_labels, similarity)
    return ranking.per_query(lambda chunk: {"it": measure(chunk)})["it"].mean(0)
