"""Exact rankings of a gallery for each query, within bounded memory.

Tie rule: items with equal scores rank in gallery order.

A query and an item make one integer, their key: the score's code in the upper half, below it the item's number, and in
the last bits the number of labels that they share. Sorted keys are the ranking, with the tie rule and the relevance at
each rank; sorting integers is several times as fast as a stable sort with indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.distributed import gather, rank_and_world_size
from xmr_e2e.evaluation.labels import LabelPair
from xmr_e2e.evaluation.pairs import Pairs
from xmr_e2e.evaluation.scores import Array, RandomScores, Scores, Source, Tile, scores_of, slices
from xmr_e2e.similarity import Similarity

BLOCK_KEYS = 2**26
"""Keys held at a time: 512 MB. Many queries at a time, as for each block the gallery is converted to fp64 again."""
BLOCK_ROWS = 1024
CHUNK_KEYS = {"cpu": 2**17, "cuda": 2**24}
"""Keys sorted and measured at a time: what fits in a core's cache; what keeps a GPU busy."""

T = TypeVar("T")


@dataclass(frozen=True)
class RankedChunk:
    """The rankings of m consecutive queries over a gallery of N items, best first."""

    rows: slice
    """The positions of these queries among all."""
    keys: Tensor
    """(m, N) int64, ascending"""
    bits: int
    """number of bits of a key that hold the number of shared labels"""
    best_keys: Tensor | None = None
    """(m, 1) int64: of the first of the items that are paired with the query"""

    @cached_property
    def relevance(self) -> Tensor:
        """(m, N) int32: labels shared by the query and the item at each rank; above 0 is relevant."""
        return self._lower_half & ((1 << self.bits) - 1)

    @cached_property
    def indices(self) -> Tensor:
        """(m, N) int64: the gallery index at each rank."""
        return (self._lower_half >> self.bits).long()

    @property
    def scores(self) -> Tensor:
        """(m, N) fp32"""
        return scores_of(_halves(self.keys)[..., 1])

    @property
    def pair_ranks(self) -> Tensor:
        """(m,) int64, from 1: of the first paired item; for a query that has none, N + 1."""
        assert self.best_keys is not None
        return torch.searchsorted(self.keys, self.best_keys)[:, 0] + 1

    @property
    def _lower_half(self) -> Tensor:
        return _halves(self.keys)[..., 0]


class Ranking:
    """The rankings of N items for each of n queries, made as they are asked for.

    Raises ValueError for labels of other numbers of queries and items, and for too many items to be numbered.
    """

    def __init__(self, source: Source, labels: LabelPair | None = None, pairs: Pairs | None = None) -> None:
        self.source, self.labels, self.pairs = source, labels, pairs
        if labels is not None and labels.shape != source.shape:
            sizes = "{} queries and {} items have {} and {} labels"
            raise ValueError(sizes.format(*source.shape, *labels.shape))
        self.bits = labels.most.bit_length() if labels is not None else 0
        if source.shape[1] << self.bits > 2**31:
            raise ValueError(f"{source.shape[1]} items that share {self.bits} bits of labels do not fit in 31 bits")

    def chunks(self, rows: slice, function: Callable[[RankedChunk], T]) -> Iterator[T]:
        """Apply the function to the rankings of these queries, a chunk after the other, and yield its results.

        A chunk is the function's only until it returns; on a CPU several threads call it, each with its own chunk.
        """
        items, device = self.source.shape[1], self.source.device
        size = max(1, min(BLOCK_ROWS, BLOCK_KEYS // items, rows.stop - rows.start))
        keys = _empty_keys(size, items, device)
        with _threads(device) as in_parallel:
            for block in slices(rows.start, rows.stop, size):
                own = keys[: block.stop - block.start]
                list(in_parallel(partial(self._fill, own, block.start), self.source.tasks(block)))
                parts = slices(block.start, block.stop, max(1, CHUNK_KEYS[device.type] // items))
                yield from in_parallel(partial(self._rank, own, block.start, function), parts)

    def per_query(self, measure: Callable[[RankedChunk], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Measures of all queries, of which each process measures a part. Called by every rank.

        measure: a chunk of m queries -> name -> (m, …). Returns name -> (n, …), the same on every rank.
        """
        count = self.source.shape[0]
        rank, world_size = rank_and_world_size()
        if count < world_size:  # an empty part has no shape
            rank, world_size = 0, 1
        own = slice(count * rank // world_size, count * (rank + 1) // world_size)
        table = _Table(own)
        for _ in self.chunks(own, lambda chunk: table.put(chunk.rows, measure(chunk))):
            pass
        return {name: gather(values) if world_size > 1 else values for name, values in table.columns.items()}

    def _fill(self, keys: Tensor, start: int, task: Callable[[], Iterator[Tile]]) -> None:
        for tile in task():
            halves = _halves(keys)[tile.rows.start - start : tile.rows.stop - start, tile.items]
            halves[..., 1] = tile.codes
            numbers = torch.arange(tile.items.start, tile.items.stop, dtype=torch.int32, device=keys.device)
            numbers <<= self.bits
            if self.labels is not None:
                numbers = self.labels.shared(tile.rows, tile.items).add_(numbers)
            halves[..., 0] = numbers

    def _rank(self, keys: Tensor, start: int, function: Callable[[RankedChunk], T], rows: slice) -> T:
        own = keys[rows.start - start : rows.stop - start]
        best = self.pairs.best_keys(own, rows) if self.pairs is not None else None
        if own.device.type == "cpu":
            own.numpy().sort(axis=1)
        else:
            own = own.sort(dim=1).values
        return function(RankedChunk(rows, own, self.bits, best))


class _Table:
    """Columns of measures, filled a chunk at a time by several threads.

    What a thread has measured is copied and freed at once: if small results stayed where they were made, between the
    large arrays that come and go, that memory could not be used again and would grow to gigabytes.
    """

    def __init__(self, rows: slice) -> None:
        self.rows = rows
        self.columns: dict[str, Tensor] = {}
        self._lock = Lock()

    def put(self, rows: slice, found: dict[str, Tensor]) -> None:
        start, stop = rows.start - self.rows.start, rows.stop - self.rows.start
        for name, values in found.items():
            with self._lock:
                if name not in self.columns:
                    self.columns[name] = values.new_empty(self.rows.stop - self.rows.start, *values.shape[1:])
            self.columns[name][start:stop] = values


def ranked_relevance(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    similarity: Similarity = "cosine",
) -> Iterator[RankedChunk]:
    """Rank the whole gallery for each query, computed on the queries' device.

    queries: (n, d), gallery: (N, d) embeddings of any float type. Labels: (n,) integer classes or (n, c) multi-hot,
    the same form on both sides. similarity: "cosine", "pearson" (cosine of rows centred on their own mean), "dot" or
    "euclidean" (negative distance). Scores are fp64 sums rounded to fp32.
    Raises XmrError for NaN or infinite embeddings, ValueError for shapes that do not fit.
    """
    ranking = model_ranking(queries, gallery, query_labels, gallery_labels, similarity)
    return ranking.chunks(slice(0, len(queries)), lambda chunk: replace(chunk, keys=chunk.keys.clone()))


def model_ranking(
    queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    similarity: Similarity,
    pairs: Pairs | None = None,
) -> Ranking:
    """The rankings by a model's embeddings; see `ranked_relevance`."""
    source = Scores(queries, gallery, similarity)
    return Ranking(source, LabelPair(query_labels, gallery_labels, source.device), pairs)


def random_ranking(labels: LabelPair, seed: int, pairs: Pairs | None = None) -> Ranking:
    """An independent random order of the gallery for each query: the floor that every figure stands on."""
    return Ranking(RandomScores(seed, labels.shape, labels.queries.device), labels, pairs)


def nearest(
    queries: Array, gallery: Array, *, similarity: Similarity = "cosine", k: int | None = None
) -> tuple[Tensor, Tensor]:
    """The first k items of each query's ranking, in the order in which the metrics rank them.

    queries: (n, d), gallery: (N, d) embeddings. k: None ranks the whole gallery.
    Returns gallery indices (n, k) int64 and scores (n, k) fp32, best first.
    Raises XmrError for NaN or infinite embeddings, ValueError for shapes that do not fit.
    """
    ranking = Ranking(Scores(queries, gallery, similarity))
    chunks = ranking.chunks(slice(0, len(queries)), lambda chunk: replace(chunk, keys=chunk.keys[:, :k].clone()))
    indices, scores = zip(*((chunk.indices, chunk.scores) for chunk in chunks))
    return torch.cat(indices), torch.cat(scores)


def _halves(keys: Tensor) -> Tensor:
    """(m, N, 2) int32, the lower half first, as on every processor that torch runs on."""
    return keys.view(torch.int32).view(*keys.shape, 2)


def _empty_keys(rows: int, items: int, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.from_numpy(np.empty((rows, items), np.int64))  # in huge pages, for which torch does not ask
    return torch.empty(rows, items, dtype=torch.int64, device=device)


@contextmanager
def _threads(device: torch.device) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map` over as many threads as torch has, each of which computes alone; on a GPU, `map`."""
    if device.type != "cpu":
        yield map
        return
    count = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(count)  # threads that start later take the last number that any thread set
