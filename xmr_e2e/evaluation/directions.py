"""Figures of every direction of retrieval among two or more modalities, of samples that may lack some of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from xmr_e2e.evaluation.embedded import EmbeddedSplit, Items
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.evaluation.pools import mixed_pools
from xmr_e2e.evaluation.retrieval import (
    MetricSpec,
    Number,
    RetrievalMetrics,
    Score,
    average_scores,
    random_correlation,
    random_metrics,
    retrieval_metrics,
)
from xmr_e2e.similarity import Similarity

OTHERS = "others"
"""in a direction's name, in the place of the gallery's modality: a mixed pool of all but the query's own"""
RSUM = "rsum"
"""the sum of recalls over all directions, by which retrieval without labels is selected"""
_BY_LABEL = ("relevance", "normaliser", "mAP", "NDCG", "curve", "scope", "per_class", "queries_without_relevant")
"""beginnings of the names of what is defined by labels"""
_POOL = {
    "all others": "a mixed pool: the items of all modalities but the query's own as one gallery, modality by modality; "
    "every such item with the query's id is its pair; in no average"
}

DirectionName = Annotated[str, Field(pattern=r"^[a-z0-9]{1,50}_to_[a-z0-9]{1,50}$")]


@dataclass(frozen=True)
class Directions:
    """The metrics of every ordered pair of modalities."""

    directions: Annotated[dict[DirectionName, RetrievalMetrics], Field(max_length=100, validation_alias="figures")]
    """"image_to_text", "text_to_image", …: the query's modality first. "figures" in result files"""
    average: dict[Score, Number]
    """of each score over the directions that have it; with "rsum", the sum of recalls over all of them"""
    pools: Annotated[dict[DirectionName, RetrievalMetrics], Field(max_length=100)] = field(default_factory=dict)
    """"image_to_others", …: queries of one modality, the items of all others as one gallery. No part of the average.
    Empty for two modalities, in validation, and in results of early versions"""

    @property
    def rows(self) -> dict[str, RetrievalMetrics]:
        """The metrics of all directions, and behind them those of the mixed pools."""
        return {**self.directions, **self.pools}

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split_direction(direction)[0] for direction in self.directions))

    @property
    def is_labeled(self) -> bool:
        """False where there were no labels to measure by."""
        return any(each.is_labeled for each in self.directions.values())


@dataclass(frozen=True)
class CrossModalMetrics:
    """All that was measured of one model on one split."""

    model: Directions
    random: Directions
    """the same metrics for random rankings of the same items"""
    definitions: dict[Score, Annotated[str, Field(max_length=10_000)]] = field(default_factory=dict)
    """the definition of each metric as computed, in words; empty in results of early versions"""

    @property
    def is_complete(self) -> bool:
        """True where all is there that this version measures."""
        return (
            bool(self.definitions)
            and self.model.directions.keys() == self.random.directions.keys()
            and self.model.pools.keys() == self.random.pools.keys()
            and all(each.is_complete for side in (self.model, self.random) for each in side.rows.values())
        )


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


def direction_name(query: str, gallery: str) -> str:
    """The name of a direction in result files: "image_to_text"."""
    return f"{query}_to_{gallery}"


def split_direction(direction: str) -> tuple[str, str]:
    """The modality of the queries and that of the gallery, from a direction's name."""
    query, _, gallery = direction.partition("_to_")
    return query, gallery


def is_pool(direction: str) -> bool:
    """True for a mixed pool's name, "image_to_others"."""
    return split_direction(direction)[1] == OTHERS


def modality_title(modality: str) -> str:
    """A modality, or the pool of all others, as it is written for people."""
    return {"shape3d": "3D shape", OTHERS: "all others"}.get(modality, modality)


def direction_title(direction: str) -> str:
    """A direction as it is written for people: "image → text"."""
    return " → ".join(map(modality_title, split_direction(direction)))


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
