"""Problems of retrieval, and their metrics from loops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from xmr_e2e.evaluation import ranking, scores


class Problem:
    """Embeddings with many equal scores, and labels of which some queries share none with the gallery."""

    queries: np.ndarray
    gallery: np.ndarray
    query_labels: np.ndarray
    gallery_labels: np.ndarray

    def __init__(self, queries: int, gallery: int, *, multi_hot: bool, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        # small integers: dot products are exact and often equal
        self.queries = rng.integers(-2, 3, (queries, 4)).astype(np.float32)
        self.gallery = rng.integers(-2, 3, (gallery, 4)).astype(np.float32)
        if multi_hot:
            self.query_labels = (rng.random((queries, 5)) < 0.3).astype(np.float32)
            self.gallery_labels = (rng.random((gallery, 5)) < 0.3).astype(np.float32)
            self.query_labels[0] = 0
        else:
            self.query_labels = rng.integers(0, 4, queries)
            self.gallery_labels = rng.integers(0, 4, gallery)
            self.query_labels[0] = 9

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.queries, self.gallery, self.query_labels, self.gallery_labels

    def gains(self) -> list[list[int]]:
        """Per query the number of shared labels at each rank, by plain loops over exact dot products."""
        rows = []
        for query, label in zip(self.queries, self.query_labels, strict=True):
            dots = [int(sum(int(a) * int(b) for a, b in zip(query, item, strict=True))) for item in self.gallery]
            order = sorted(range(len(dots)), key=lambda index: (-dots[index], index))
            rows.append([shared(label, self.gallery_labels[index]) for index in order])
        return rows


@contextmanager
def pieces(block: int = 1024, chunk: int = 1, tile: tuple[int, int] = (512, 1024)) -> Iterator[None]:
    """Queries held at a time, scores sorted at a time, and the queries and items whose scores are made at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK_ROWS", block)
        patch.setattr(ranking, "CHUNK_KEYS", {"cpu": chunk})
        patch.setattr(scores, "TILE", {"cpu": tile})
        yield


def shared(a: Any, b: Any) -> int:
    return int(a == b) if np.ndim(a) == 0 else sum(int(x and y) for x, y in zip(a, b, strict=True))


def mean(values: Any) -> float:
    return math.fsum(values := list(values)) / len(values)
