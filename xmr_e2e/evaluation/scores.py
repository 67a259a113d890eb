"""Scores of queries with items, a tile at a time, as integers that sort as the scores do.

A code is an int32: the better the score, the smaller the code; equal scores have equal codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.similarity import Similarity

Array: TypeAlias = Tensor | np.ndarray[Any, Any]

TILE = {"cpu": (512, 1024), "cuda": (8192, 8192)}
"""Queries and items of a tile: few enough for a core's caches, enough to keep a GPU busy."""
ROWS = 4096
"""Embeddings that are held in fp64 at a time while they are looked at."""
CLOSE = 1e-4
"""Below this share of the squared norms, a squared distance is too small to be the difference of larger numbers."""
_SIGN = 0x7FFFFFFF


@dataclass(frozen=True)
class Tile:
    """The codes of some queries with some items."""

    rows: slice
    items: slice
    codes: Tensor
    """(rows, items) int32"""


class Source(Protocol):
    """Codes of n queries with N items."""

    shape: tuple[int, int]
    device: torch.device

    def tasks(self, rows: slice) -> list[Callable[[], Iterator[Tile]]]:
        """All tiles of these queries, in parts that can be made in any order and side by side."""
        ...


class Scores:
    """Scores by a similarity, computed on the queries' device: fp64 sums, rounded to fp32.

    queries: (n, d), gallery: (N, d) of any float type; they are held as they are, and in fp64 a tile at a time.
    Raises XmrError for NaN or infinite embeddings, ValueError for shapes that do not fit.
    """

    def __init__(self, queries: Array, gallery: Array, similarity: Similarity) -> None:
        self.device = queries.device if isinstance(queries, Tensor) else torch.device("cpu")
        self.queries = Prepared(_tensor(queries, self.device), "queries", similarity)
        self.gallery = Prepared(_tensor(gallery, self.device), "gallery", similarity)
        self.shape = len(self.queries.embeddings), len(self.gallery.embeddings)
        self.is_distance = similarity == "euclidean"
        widths = self.queries.embeddings.shape[1], self.gallery.embeddings.shape[1]
        if widths[0] != widths[1]:
            raise ValueError(f"queries have {widths[0]} dimensions and the gallery {widths[1]}")

    def tasks(self, rows: slice) -> list[Callable[[], Iterator[Tile]]]:
        asked = self.queries.rows(rows)
        size = TILE[self.device.type][1]
        return [partial(self._tiles, asked, rows.start, items) for items in slices(0, self.shape[1], size)]

    def _tiles(self, asked: Tensor, start: int, items: slice) -> Iterator[Tile]:
        ranked = self.gallery.rows(items)
        for part in slices(0, len(asked), TILE[self.device.type][0]):
            # fp64 sums rounded to fp32: TF32 and the order of summation, which changes with the tile, hardly ever move
            # a rank, and identical items tie
            scores = (_negative_distances if self.is_distance else _products)(asked[part], ranked)
            yield Tile(slice(start + part.start, start + part.stop), items, codes_of(scores))


class RandomScores:
    """Independent random scores. They depend on the seed and the two sizes alone, not on tiles or the device."""

    def __init__(self, seed: int, shape: tuple[int, int], device: torch.device) -> None:
        self.seed, self.shape, self.device = seed, shape, device

    def tasks(self, rows: slice) -> list[Callable[[], Iterator[Tile]]]:
        parts = slices(rows.start, rows.stop, max(1, 2**20 // self.shape[1]))
        return [partial(self._tiles, part) for part in parts]

    def _tiles(self, rows: slice) -> Iterator[Tile]:
        yield Tile(rows, slice(0, self.shape[1]), self._draw(rows))

    def _draw(self, rows: slice) -> Tensor:
        # 32 random bits: of the 24 of an fp32 number many in a large gallery would be equal, and ties favour its
        # first items. A draw is 64 bits, and each query begins with one of its own.
        count, items = rows.stop - rows.start, self.shape[1]
        width = (items + 1) // 2
        bits = np.random.PCG64(self.seed).advance(rows.start * width).random_raw(count * width)
        return torch.from_numpy(bits.view(np.int32).reshape(count, 2 * width)[:, :items]).to(self.device)


class Prepared:
    """Embeddings (n, d) such that products, or distances, of their `rows` are the scores."""

    def __init__(self, embeddings: Tensor, name: str, similarity: Similarity) -> None:
        if similarity not in ("cosine", "pearson", "dot", "euclidean"):
            raise ValueError(f"similarity {similarity!r} is not one of cosine, pearson, dot, euclidean")
        if embeddings.ndim != 2 or not len(embeddings):
            raise ValueError(f"{name} must be (n, d) with n > 0, got {tuple(embeddings.shape)}")
        self.embeddings = embeddings
        self.is_centered = similarity == "pearson"
        self.scale: Tensor | None = None
        norms = torch.cat([self.rows(rows).norm(dim=1, keepdim=True) for rows in slices(0, len(embeddings), ROWS)])
        _require_finite(norms[:, 0].isfinite(), name)
        if similarity in ("cosine", "pearson"):
            self.scale = 1 / norms.clamp(min=1e-12)

    def rows(self, rows: slice | Tensor) -> Tensor:
        """(rows, d) fp64"""
        prepared = self.embeddings[rows].double()
        if self.is_centered:
            prepared = prepared - prepared.mean(1, keepdim=True)
        return prepared if self.scale is None else prepared * self.scale[rows]


def codes_of(scores: Tensor) -> Tensor:
    """fp64 scores, rounded to fp32, as codes."""
    # The bits of positive floats sort as the floats do, those of negative ones in reverse. Adding 0 makes -0 a 0.
    bits = scores.to(torch.float32, copy=True).neg_().add_(0.0).view(torch.int32)
    flipped = bits >> 31
    flipped &= _SIGN
    bits ^= flipped
    return bits


def scores_of(codes: Tensor) -> Tensor:
    """The fp32 scores that have these codes."""
    return 0.0 - (codes ^ ((codes >> 31) & _SIGN)).view(torch.float32)


def slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Consecutive parts of a range, of `size` but for the last."""
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))


def _products(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.T


def _negative_distances(a: Tensor, b: Tensor) -> Tensor:
    norms = a.square().sum(1, keepdim=True) + b.square().sum(1)
    squares = norms - 2 * (a @ b.T)
    if bool((squares < CLOSE * norms).any()):  # by differences then, which takes many times as long
        return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return -squares.sqrt()


def _tensor(embeddings: Array, device: torch.device) -> Tensor:
    return torch.as_tensor(embeddings, device=device).detach()


def _require_finite(finite: Tensor, name: str) -> None:
    if not finite.all():
        raise XmrError(
            f"{name}: {int((~finite).sum())} of {len(finite)} embeddings hold NaN or infinite values (first: row "
            f"{int((~finite).nonzero()[0])}). The training has probably diverged: lower the learning rate, "
            "or evaluate an earlier checkpoint."
        )
