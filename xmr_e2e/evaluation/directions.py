"""Figures of every direction of retrieval among two or more modalities, of samples that may lack some of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from xmr_e2e.evaluation.embedded import EmbeddedSplit, Items
from xmr_e2e.evaluation.figures import (
    OTHERS,
    RSUM,
    CrossModalMetrics,
    Directions,
    RetrievalMetrics,
    direction_name,
)
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.evaluation.pools import mixed_pools
from xmr_e2e.evaluation.retrieval import (
    MetricSpec,
    average_scores,
    random_correlation,
    random_metrics,
    retrieval_metrics,
)
from xmr_e2e.similarity import Similarity

_BY_LABEL = ("relevance", "normaliser", "mAP", "NDCG", "curve", "scope", "per_class", "queries_without_relevant")
"""beginnings of the names of what is defined by labels"""
_POOL = {
    "all others": "a mixed pool: the items of all modalities but the query's own as one gallery, modality by modality; "
    "every such item with the query's id is its pair; in no average"
}


def all_directions(
    queries: EmbeddedSplit,
    gallery: EmbeddedSplit | None = None,
    *,
    similarity: Similarity = "cosine",
    spec: MetricSpec = MetricSpec(),
    discounts: Mapping[str, Discount] = MappingProxyType({}),
) -> Directions:
    """`retrieval_metrics` of each ordered pair of modalities, without the random row: what validation needs.

    gallery: what is ranked, where it is another set than the queries' own. Items with the same key are pairs.
    discounts: direction -> that of NDCG, where it is not the ordinary one. Called by every rank.
    Raises XmrError for NaN or infinite embeddings, ValueError for fewer than two modalities or shapes that do not fit.
    """
    return with_average(
        {
            name: _metrics_of(asked, ranked, similarity, spec, discounts.get(name, Discount()))
            for name, asked, ranked in _pairs(queries, gallery)
        },
        spec,
    )


def cross_modal_metrics(
    queries: EmbeddedSplit,
    gallery: EmbeddedSplit | None = None,
    *,
    similarity: Similarity = "cosine",
    spec: MetricSpec = MetricSpec(),
    discounts: Mapping[str, Discount] = MappingProxyType({}),
    seed: int = 0,
    random_rankings: int = 5,
) -> CrossModalMetrics:
    """Everything that a result file says: all directions, mixed pools, the random rows beside them, the definitions.

    The random row of a direction is the mean over `random_rankings` rankings drawn from `seed`.
    Other arguments and errors: see `all_directions`.
    """
    model = all_directions(queries, gallery, similarity=similarity, spec=spec, discounts=discounts)
    pools = {
        name: _metrics_of(asked, ranked, similarity, spec, Discount())
        for name, asked, ranked in _pools(queries, gallery)
    }
    seeds = np.random.SeedSequence(seed).generate_state((len(model.directions) + len(pools)) * random_rankings)
    ranked_by_chance = itertools.chain(_pairs(queries, gallery), _pools(queries, gallery))
    floors = {
        name: _random_metrics_of(asked, ranked, own_seeds.tolist(), spec, discounts.get(name, Discount()))
        for (name, asked, ranked), own_seeds in zip(ranked_by_chance, seeds.reshape(-1, random_rankings))
    }
    random = with_average({name: floors[name] for name in model.directions}, spec)
    definitions = _definitions(similarity, spec, discounts, random_rankings, seed) | (_POOL if pools else {})
    if not queries.is_labeled:
        definitions = {name: words for name, words in definitions.items() if not _is_by_label(name)}
    return CrossModalMetrics(
        replace(model, pools=pools), replace(random, pools={name: floors[name] for name in pools}), definitions
    )


def _metrics_of(
    asked: Items, ranked: Items, similarity: Similarity, spec: MetricSpec, discount: Discount
) -> RetrievalMetrics:
    return retrieval_metrics(
        asked.embeddings,
        ranked.embeddings,
        asked.labels,
        ranked.labels,
        query_ids=asked.keys,
        gallery_ids=ranked.keys,
        similarity=similarity,
        spec=spec,
        ndcg_discount=discount,
    )


def _random_metrics_of(
    asked: Items, ranked: Items, seeds: Sequence[int], spec: MetricSpec, discount: Discount
) -> RetrievalMetrics:
    """With Pearson's random row where there are pairs."""
    ids: dict[str, Any] = {"query_ids": asked.keys, "gallery_ids": ranked.keys}
    found = random_metrics(asked.labels, ranked.labels, seeds=seeds, spec=spec, ndcg_discount=discount, **ids)
    if found.queries_with_pair:
        found.scores["Pearson"] = random_correlation(asked.embeddings, ranked.embeddings, seeds=seeds, **ids)
    return found


def _is_by_label(definition: str) -> bool:
    return definition.startswith(_BY_LABEL)


def _pairs(queries: EmbeddedSplit, gallery: EmbeddedSplit | None) -> Iterator[tuple[str, Items, Items]]:
    """Each direction's name, queries and gallery."""
    if len(queries.modalities) < 2:
        raise ValueError(f"retrieval needs two modalities, got {', '.join(queries.modalities) or 'none'}")
    ranked = gallery or queries
    if set(ranked.modalities) != set(queries.modalities):
        raise ValueError(f"queries have {', '.join(queries.modalities)}, the gallery {', '.join(ranked.modalities)}")
    for one, other in itertools.permutations(queries.modalities, 2):
        yield direction_name(one, other), queries.items(one), ranked.items(other)


def _pools(queries: EmbeddedSplit, gallery: EmbeddedSplit | None) -> Iterator[tuple[str, Items, Items]]:
    """Each mixed pool's name, queries and gallery."""
    for modality, asked, ranked in mixed_pools(queries, gallery or queries):
        yield direction_name(modality, OTHERS), asked, ranked


def with_average(metrics: dict[str, RetrievalMetrics], spec: MetricSpec = MetricSpec()) -> Directions:
    """The metrics of all directions, with the average of each and the sum of recalls."""
    scores = [each.scores for each in metrics.values()]
    recalls = [own[name] for own in scores for name in spec.by_pair if name in own]
    return Directions(metrics, average_scores(scores) | ({RSUM: 100 * math.fsum(recalls)} if recalls else {}))


def _definitions(
    similarity: Similarity, spec: MetricSpec, discounts: Mapping[str, Discount], random_rankings: int, seed: int
) -> dict[str, str]:
    """Of all scores, those by labels included."""
    odd = {
        f"NDCG@k of {direction}": f"as NDCG@k, with the divisor {discount.words} in place of log2(r + 1)"
        for direction, discount in discounts.items()
    }
    return {
        "similarity": similarity,
        "scores": "fp64 sums, rounded to fp32",
        "ties": "equal scores rank in gallery order",
        "relevance": "at least one shared label",
        "normaliser": spec.normaliser,
        "mAP@k": "mean over queries of the sum of precision(r) over the relevant ranks r <= k, over the normaliser",
        "NDCG@k": "mean over queries of the sum over ranks r <= k of (number of shared labels) / log2(r + 1), over "
        "that of the ideal ranking of the whole gallery",
        **odd,
        "R@k": "share of the queries with a pair (same id) in the gallery that have it among the first k",
        "MedR": "median over the queries with a pair of the rank, from 1, of the first item that is their pair; the "
        "mean of the two in the middle where their number is even",
        "Pearson": "mean over the pairs of Pearson's correlation coefficient of the two embeddings, over their "
        "dimensions",
        "curve": "mean over queries of the highest precision at any rank whose recall reaches the level",
        "scope": "mean over queries of the share of relevant items among the first k",
        "per_class": "mAP@all of the queries that have the label",
        "queries_without_relevant": "count 0 and stay in the mean",
        "average": "of each figure over the directions that have it",
        RSUM: f"100 times the sum of {', '.join(spec.by_pair)} over all directions: at most "
        f"{100 * len(spec.by_pair)} for each",
        "standard_errors": "standard deviation over the queries over the square root of their number; 1.96 of them on "
        "either side are a 95 % confidence interval for other queries of this kind, not for other seeds",
        "random Pearson": "of the queries with a pair, each beside an item drawn at random",
        "random": f"mean of {random_rankings} random rankings per direction, seed {seed}",
    }
