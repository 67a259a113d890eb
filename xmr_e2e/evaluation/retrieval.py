"""All figures of one direction of retrieval from one pass over exact rankings, accumulated in fp64.

Relevant = sharing at least one label. Labels are (n,) integer classes or (n, c) multi-hot, arrays or tensors; of data
without labels they are (n, 0), and the figures by pair alone are measured.
A query with no relevant item in the gallery counts 0 and stays in the mean; result files say how many there were.
Equal scores rank in gallery order. Where there is a process group, every rank calls these functions; each ranks a part
of the queries, and all return the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.evaluation.figures import PrecisionRecallCurve, PrecisionScopeCurve, RetrievalMetrics
from xmr_e2e.evaluation.labels import LabelPair
from xmr_e2e.evaluation.pairs import Ids, Pairs, mean_correlation
from xmr_e2e.evaluation.per_query import (
    Discount,
    Normaliser,
    average_precision,
    interpolated_precision,
    normalized_gain,
    precision_at,
)
from xmr_e2e.evaluation.ranking import RankedChunk, Ranking, random_ranking
from xmr_e2e.evaluation.scores import Array, Scores
from xmr_e2e.similarity import Similarity

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class MetricSpec:
    """The metrics that a single pass over the rankings measures."""

    normaliser: Normaliser = "relevant_in_top_k"
    """of average precision; see `metrics.mean_average_precision`"""
    map_ks: tuple[int, ...] = (50,)
    """the cutoffs of mAP, beside mAP@all"""
    ndcg_ks: tuple[int, ...] = (500,)
    recall_ks: tuple[int, ...] = (1, 5, 10)
    scope_ks: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    """of the precision-scope curve, ascending"""

    @property
    def by_label(self) -> tuple[str, ...]:
        """The scores that count by labels: "mAP@all", "mAP@50", …"""
        return ("mAP@all", *(f"mAP@{k}" for k in self.map_ks), *(f"NDCG@{k}" for k in self.ndcg_ks))

    @property
    def by_pair(self) -> tuple[str, ...]:
        """The scores that count by pairs and of which more is better: "R@1", …"""
        return tuple(f"R@{k}" for k in self.recall_ks)

    @property
    def names(self) -> tuple[str, ...]:
        """The scores of which more is better: "mAP@all", "mAP@50", …"""
        return (*self.by_label, *self.by_pair)


def retrieval_metrics(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    similarity: Similarity = "cosine",
    spec: MetricSpec = MetricSpec(),
    ndcg_discount: Discount = Discount(),
) -> RetrievalMetrics:
    """All figures of one direction from a single pass over the rankings.

    *_ids: one string or integer per item; a query and a gallery item with the same id are a pair, and an id may have
    several gallery items (captions). Other arguments and errors: see `ranking.ranked_relevance`.
    """
    source = Scores(queries, gallery, similarity)
    labels = LabelPair(query_labels, gallery_labels, source.device)
    pairs = Pairs.of(query_ids, gallery_ids, source.shape, source.device)
    metrics = _metrics(Ranking(source, labels, pairs), labels, pairs, spec, ndcg_discount)
    if len(pairs.items):
        metrics.scores["Pearson"] = mean_correlation(queries, gallery, pairs)
    return metrics


def random_metrics(
    query_labels: Array,
    gallery_labels: Array,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    seeds: Sequence[int],
    spec: MetricSpec = MetricSpec(),
    ndcg_discount: Discount = Discount(),
) -> RetrievalMetrics:
    """The mean of `retrieval_metrics` over random rankings, one per seed: the row to read beside a model's."""
    device = query_labels.device if isinstance(query_labels, Tensor) else torch.device("cpu")
    labels = LabelPair(query_labels, gallery_labels, device)
    pairs = Pairs.of(query_ids, gallery_ids, labels.shape, device)
    rankings = (random_ranking(labels, seed, pairs) for seed in seeds)
    return average_metrics([_metrics(ranking, labels, pairs, spec, ndcg_discount) for ranking in rankings])


def random_correlation(
    queries: Array, gallery: Array, *, query_ids: Ids, gallery_ids: Ids, seeds: Sequence[int]
) -> float:
    """Pearson's row of random rankings: each query that has a pair beside an item drawn at random, a mean over seeds.

    In a space that has collapsed to a point, it is as high as that of the pairs.
    """
    source = Scores(queries, gallery, "pearson")
    pairs = Pairs.of(query_ids, gallery_ids, source.shape, source.device)
    drawn = [
        np.random.default_rng(seed).integers(source.shape[1], size=len(pairs.items), dtype=np.int64) for seed in seeds
    ]
    found = [replace(pairs, items=torch.from_numpy(items).to(source.device)) for items in drawn]
    return float(np.mean([mean_correlation(queries, gallery, each) for each in found]))


def average_metrics(metrics: Sequence[RetrievalMetrics]) -> RetrievalMetrics:
    """The mean of each figure over those that have it; counts are rounded."""
    curves = np.mean([each.curve.precision for each in metrics], axis=0)
    shortest = min((each.scope for each in metrics), key=lambda scope: len(scope.k))
    scopes = np.mean([each.scope.precision[: len(shortest.k)] for each in metrics], axis=0)
    counts = ("queries", "gallery", "queries_with_pair", "queries_without_relevant")
    return RetrievalMetrics(
        scores=average_scores([each.scores for each in metrics]),
        curve=PrecisionRecallCurve(metrics[0].curve.recall, curves.tolist()),
        scope=PrecisionScopeCurve(shortest.k, scopes.tolist()),
        per_class=dict(sorted(average_scores([each.per_class for each in metrics]).items())),
        **{name: round(np.mean([getattr(each, name) for each in metrics])) for name in counts},
    )


def average_scores(scores: Sequence[Mapping[Name, float]]) -> dict[Name, float]:
    """The mean of each score over those that have it."""
    names = dict.fromkeys(name for each in scores for name in each)
    return {name: float(np.mean([each[name] for each in scores if name in each])) for name in names}


def _metrics(
    ranking: Ranking, labels: LabelPair, pairs: Pairs, spec: MetricSpec, discount: Discount
) -> RetrievalMetrics:
    scope_ks = [k for k in spec.scope_ks if k <= labels.shape[1]] if labels.are_there else []
    found = ranking.per_query(_measure(spec, scope_ks, discount) if labels.are_there else _measure_by_pair)
    ranks = found["pair rank"][pairs.has_pair]
    of_queries = {name: found[name] for name in spec.by_label if name in found}
    of_queries |= {f"R@{k}": ranks <= k for k in spec.recall_ks}
    metrics = RetrievalMetrics(
        scores={name: of_queries[name].mean().item() for name in spec.by_label if name in found}
        | _scores_by_pair(ranks, spec.recall_ks),
        queries=labels.shape[0],
        gallery=labels.shape[1],
        queries_with_pair=int(pairs.has_pair.sum()),
        standard_errors={name: _standard_error(values) for name, values in of_queries.items() if len(values) > 1},
    )
    if not labels.are_there:
        return metrics
    precision = found["mAP@all"]
    return replace(
        metrics,
        curve=PrecisionRecallCurve.of(found["curve"].mean(0).tolist()),
        scope=PrecisionScopeCurve(scope_ks, found["scope"].mean(0).tolist()),
        per_class=_by_class(precision, labels.queries),
        queries_without_relevant=int((precision == 0).sum()),
    )


def _measure_by_pair(chunk: RankedChunk) -> dict[str, Tensor]:
    return {"pair rank": chunk.pair_ranks}


def _measure(
    spec: MetricSpec, scope_ks: Sequence[int], discount: Discount
) -> Callable[[RankedChunk], dict[str, Tensor]]:
    def measure(chunk: RankedChunk) -> dict[str, Tensor]:
        relevance = chunk.relevance
        found = {"mAP@all": average_precision(relevance, None, spec.normaliser)}
        found |= {f"mAP@{k}": average_precision(relevance, k, spec.normaliser) for k in spec.map_ks}
        found |= {f"NDCG@{k}": normalized_gain(relevance, k, discount, chunk.rows) for k in spec.ndcg_ks}
        found["curve"] = interpolated_precision(relevance)
        found["scope"] = precision_at(relevance, scope_ks)
        return found | _measure_by_pair(chunk)

    return measure


def _scores_by_pair(ranks: Tensor, recall_ks: Sequence[int]) -> dict[str, float]:
    if not len(ranks):
        return {}
    recall = {f"R@{k}": (ranks <= k).double().mean().item() for k in recall_ks}
    return recall | {"MedR": float(np.median(ranks.numpy(force=True)))}


def _standard_error(values: Tensor) -> float:
    """Of the mean of n values."""
    return values.double().std().item() / len(values) ** 0.5


def _by_class(precision: Tensor, labels: Tensor) -> dict[int, float]:
    """labels: (n,) classes or (n, c) multi-hot, of the queries"""
    if labels.ndim == 1:
        counts, sums = labels.bincount().double(), labels.bincount(precision)
    else:
        hot = labels.double()
        counts, sums = hot.sum(0), precision @ hot
    means = (sums / counts).tolist()
    return {name: means[name] for name in counts.nonzero()[:, 0].tolist()}
