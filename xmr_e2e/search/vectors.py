"""Nearest neighbours with faiss: exact up to a size, above it a graph (HNSW), whose recall is nearly that.

Either proposes candidates, which `evaluation.ranking.nearest` then ranks, so that scores, order and ties are those of
the evaluation. Of an exact index the candidates hold all items that the ranking needs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.search.graph import graph_bytes, restore_graph
from xmr_e2e.similarity import Similarity

FLAT_UP_TO = 50_000
"""items; comparing a query with all of so many takes milliseconds"""
NEIGHBORS, BUILD_BREADTH, SEARCH_BREADTH = 32, 200, 256
"""M, efConstruction and efSearch of HNSW (Malkov and Yashunin, 2018), chosen for recall: `tests/search/test_index.py`
asks for 0.99 of the first ten"""
AT_ONCE = 10_000
"""rows that are brought to length 1 in fp64 at a time: all of a million would take five times their own memory"""
SLACK = 1e-5
"""by which a score in fp32 may be off, relative to the largest; faiss sums in fp32, the ranking in fp64"""


class Neighbors:
    """The embeddings of one modality, ready to be searched. Rows are numbered from 0."""

    def __init__(self, similarity: Similarity, index: Any) -> None:
        self.similarity = similarity
        self._index = index

    @classmethod
    def of(
        cls,
        embeddings: NDArray[np.float32],
        similarity: Similarity,
        *,
        graph: bytes | None = None,
        flat_up_to: int = FLAT_UP_TO,
        where: str = "the graph",
    ) -> Neighbors:
        """An index of embeddings (n, d).

        Args:
            graph: what `graph()` gave for the first of these rows, to which the others are added.
            where: the graph's place, for messages.

        Raises:
            XmrError: embeddings that are NaN or infinite, or no graph of them.
        """
        if not np.isfinite(embeddings).all():
            raise XmrError("the model's embeddings hold NaN or infinite values: its training has diverged")
        rows = _prepared(embeddings, similarity)
        index = _empty(rows.shape[1], similarity, is_flat=graph is None and len(rows) <= flat_up_to)
        done = 0 if graph is None else restore_graph(index, graph, rows, where)
        index.add(rows[done:])
        return cls(similarity, index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        return int(self._index.d)

    @property
    def is_approximate(self) -> bool:
        return isinstance(self._index, faiss.IndexHNSW)

    def graph(self) -> bytes | None:
        """The graph without the embeddings, which takes long to make; None for an exact index."""
        return graph_bytes(self._index) if self.is_approximate else None

    def candidates(self, query: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Rows, ascending, among which the k nearest of a query (d,) are; of a graph, nearly always."""
        prepared = _prepared(query[None], self.similarity)
        count = min(k, len(self))
        if self.is_approximate:
            self._index.hnsw.efSearch = max(SEARCH_BREADTH, 2 * count)
            rows = self._index.search(prepared, count)[1][0]
            return np.sort(rows[rows >= 0])
        worst = float(self._index.search(prepared, count)[0][0, -1])
        # All that score as well as the last one, or would if the sums were exact: of ties, the first in order wins.
        if self.similarity == "euclidean":
            radius = worst * (1 + SLACK) + float(np.finfo(np.float32).tiny)
        else:
            radius = worst - SLACK * max(1.0, abs(worst), self._largest_score(prepared))
        return np.sort(self._index.range_search(prepared, radius)[2])

    def _largest_score(self, query: NDArray[np.float32]) -> float:
        """A bound of the scores' size, from which their error follows."""
        if self.similarity != "dot":
            return 1.0
        return float(np.linalg.norm(query)) * self._longest

    @cached_property
    def _longest(self) -> float:
        rows = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        return float(np.linalg.norm(rows.reshape(-1, self._index.d), axis=1).max())


def _empty(width: int, similarity: Similarity, *, is_flat: bool) -> Any:
    if is_flat:
        return faiss.IndexFlatL2(width) if similarity == "euclidean" else faiss.IndexFlatIP(width)
    # Of rows of length 1, the nearest have the largest product; graphs are made for distances.
    metric = faiss.METRIC_INNER_PRODUCT if similarity == "dot" else faiss.METRIC_L2
    index = faiss.IndexHNSWFlat(width, NEIGHBORS, metric)
    index.hnsw.efConstruction = BUILD_BREADTH
    return index


def _prepared(rows: NDArray[np.float32], similarity: Similarity) -> NDArray[np.float32]:
    """Rows whose products, or distances, rank as the similarity does."""
    if similarity in ("dot", "euclidean"):
        return np.ascontiguousarray(rows, np.float32)
    found = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), AT_ONCE):
        exact = rows[start : start + AT_ONCE].astype(np.float64)
        if similarity == "pearson":
            exact -= exact.mean(1, keepdims=True)
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        found[start : start + AT_ONCE] = exact / np.maximum(lengths, 1e-12)
    return found
