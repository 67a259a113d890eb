"""Rankings query by query: what the examples, the failures and the confusion between classes are taken from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmr_e2e.evaluation.classes import one_hot, spread_over_classes
from xmr_e2e.evaluation.embedded import EmbeddedSplit, Items
from xmr_e2e.evaluation.figures import direction_name
from xmr_e2e.evaluation.pairs import Pairs
from xmr_e2e.evaluation.per_query import average_precision
from xmr_e2e.evaluation.ranking import RankedChunk, model_ranking, nearest
from xmr_e2e.similarity import Similarity

RANKED = 50_000_000
"""Items that are ranked in one direction, over all queries: some seconds of a core. With more, queries are drawn."""
FIRST = 50
"""Results that are kept of each query."""


@dataclass(frozen=True)
class RankingSample:
    """Rankings of m queries of one direction, all there are or as many as could be ranked."""

    query: str
    """modality"""
    gallery: str
    """modality"""
    similarity: Similarity
    queries: Items
    """all that could have asked"""
    items: Items
    """all that were ranked"""
    rows: NDArray[np.int64]
    """(m,) which of the queries asked, ascending"""
    first: NDArray[np.int64]
    """(m, k) the items at the first k = min(FIRST, all) ranks"""
    precision: NDArray[np.float64]
    """(m,) average precision over the whole ranking; without labels, 1 over the rank of the first pair, or 0"""
    relevant: NDArray[np.bool_]
    """(m,) whether any item shares a label with the query; without labels, whether any is its pair"""
    right_first: NDArray[np.bool_]
    """(m,) whether the first one does, or is"""
    pair_rank: NDArray[np.int64]
    """(m,) the rank, from 1, of the first item with the query's key; 0 where there is none"""
    pair: NDArray[np.int64]
    """(m,) that item; -1 where there is none"""

    @property
    def is_labeled(self) -> bool:
        """False where there are no labels, and right is what is the query's own pair."""
        return self.queries.is_labeled

    @property
    def direction(self) -> str:
        return direction_name(self.query, self.gallery)

    @property
    def is_sampled(self) -> bool:
        return len(self.rows) < len(self.queries.keys)

    def scores(self, rows: list[int], shown: int) -> NDArray[np.float32]:
        """(len(rows), shown) the scores of the first results of these of the m queries."""
        asked = self.queries.embeddings[torch.from_numpy(self.rows[rows])]
        _, scores = nearest(asked, self.items.embeddings, similarity=self.similarity, k=shown)
        return scores.numpy(force=True)


def inspect_rankings(
    queries: EmbeddedSplit, gallery: EmbeddedSplit | None = None, *, similarity: Similarity, seed: int = 0
) -> list[RankingSample]:
    """The rankings of each ordered pair of modalities; where there are too many queries, of some that are drawn evenly
    over the classes, the same ones for the same seed.

    gallery: what is ranked, where it is another set than the queries' own. Errors: see `ranking.ranked_relevance`.
    """
    ranked = gallery or queries
    return [
        _inspect(query, queries.items(query), other, ranked.items(other), similarity, np.random.default_rng(seed))
        for query, other in permutations(queries.modalities, 2)
    ]


def _inspect(
    query: str, queries: Items, gallery: str, items: Items, similarity: Similarity, rng: np.random.Generator
) -> RankingSample:
    count = max(100, RANKED // len(items.keys))
    rows = np.arange(len(queries.keys))
    if len(rows) > count:
        rows = np.sort(spread_over_classes(one_hot(queries.labels), count, rng))
    chosen = torch.from_numpy(rows)
    asked, device = queries.embeddings[chosen], queries.embeddings.device
    pairs = Pairs.of(queries.keys[rows], items.keys, (len(rows), len(items.keys)), device)
    ranking = model_ranking(asked, items.embeddings, queries.labels[chosen], items.labels, similarity, pairs)
    look = _look if queries.is_labeled else _look_by_pair
    parts = list(ranking.chunks(slice(0, len(rows)), look))
    columns = (torch.cat(column).numpy(force=True) for column in zip(*parts))
    return RankingSample(query, gallery, similarity, queries, items, rows, *columns)


def _look(chunk: RankedChunk) -> tuple[Tensor, ...]:
    """Of each query of a chunk, the arrays of `RankingSample` from `first` on."""
    first, _, _, _, rank, pair = _look_by_pair(chunk)
    precision = average_precision(chunk.relevance, None, "all_relevant")
    return first, precision, (chunk.relevance > 0).any(1), chunk.relevance[:, 0] > 0, rank, pair


def _look_by_pair(chunk: RankedChunk) -> tuple[Tensor, ...]:
    """The same where there are no labels."""
    ranks, items = chunk.pair_ranks, chunk.indices
    has_pair = ranks <= items.shape[1]
    pair = items.gather(1, ranks.clamp(max=items.shape[1])[:, None] - 1)[:, 0]
    return (
        items[:, :FIRST].clone(),  # the rest of the ranking is let go
        (1 / ranks.double()).where(has_pair, 0.0),
        has_pair,
        ranks == 1,
        ranks.where(has_pair, 0),
        pair.where(has_pair, -1),
    )
