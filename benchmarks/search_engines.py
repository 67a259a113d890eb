"""The libraries that are compared in searching a large index, each of them the same way: built, opened, asked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

from xmr_e2e.search.draft import NewItem, rewritten
from xmr_e2e.search.index import Index
from xmr_e2e.search.store import NAME, Item
from xmr_e2e.search.vectors import BUILD_BREADTH, NEIGHBORS, SEARCH_BREADTH, Neighbors
from xmr_e2e.similarity import Similarity

TOP = 10
VECTORS, QUERIES, BARE, FLAT = "vectors.npy", "queries.npy", "graph.faiss", "flat.faiss"
MODALITY = "image"

Rows: TypeAlias = NDArray[np.float32]
Search: TypeAlias = Callable[[Rows], NDArray[np.int64]]
"""a query (d,) to the TOP nearest rows, counted from 0"""


@dataclass(frozen=True)
class Engine:
    """A way to index vectors and to find the nearest ones of a query; both get the folder of all files."""

    build: Callable[[Path], None] | None
    """None for one that opens what an earlier one built"""
    open: Callable[[Path], Search]
    needs: str = "faiss"
    """the module"""


def begin(folder: Path, similarity: Similarity, **about: str) -> None:
    """Make an index file of ours that holds nothing yet.

    about: what else is said of it, for a model to search in it.
    """
    with rewritten(folder / NAME, keep=False) as draft:
        draft.describe(similarity=similarity, **about)


def _write_items(folder: Path) -> None:
    """The index file as `xmr index` writes it, without a graph."""
    with rewritten(folder / NAME, keep=True) as draft:
        draft.add(_entry(number, row) for number, row in enumerate(np.load(folder / VECTORS)))


def _entry(number: int, row: Rows) -> NewItem:
    name = str(number)
    return NewItem(Item(name, "drawn", "test", name, name, (), ()), {MODALITY: row}, None)


def _add_graph(folder: Path) -> None:
    """The graph of the items that are there; also as faiss's own file, for the graph to be used bare."""
    with rewritten(folder / NAME, keep=True) as draft:
        neighbors = Neighbors.of(draft.embeddings(MODALITY)[1], draft.about.similarity, flat_up_to=0)
        draft.set_graph(MODALITY, neighbors.graph())
    faiss.write_index(neighbors._index, str(folder / BARE))


def _open_ours(folder: Path) -> Search:
    held = Index(folder)
    # Items are numbered from 1.
    return lambda query: np.array([number - 1 for number, _ in held.nearest(query, MODALITY, TOP)])


def _build_flat(folder: Path) -> None:
    vectors = np.load(folder / VECTORS)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    faiss.write_index(flat, str(folder / FLAT))


def _open_faiss(folder: Path, *, name: str) -> Search:
    held: Any = faiss.read_index(str(folder / name))
    if name == BARE:
        held.hnsw.efSearch = SEARCH_BREADTH
    return lambda query: held.search(query[None], TOP)[1][0]


def _build_usearch(folder: Path) -> None:
    vectors = np.load(folder / VECTORS)
    held = importlib.import_module("usearch.index").Index(
        ndim=vectors.shape[1],
        metric="l2sq",
        dtype="f32",
        connectivity=NEIGHBORS,
        expansion_add=BUILD_BREADTH,
        expansion_search=SEARCH_BREADTH,
    )
    held.add(np.arange(len(vectors)), vectors)
    held.save(str(folder / "usearch"))


def _open_usearch(folder: Path) -> Search:
    held = importlib.import_module("usearch.index").Index.restore(str(folder / "usearch"))
    held.expansion_search = SEARCH_BREADTH
    return lambda query: held.search(query, TOP).keys.astype(np.int64)


def _build_hnswlib(folder: Path) -> None:
    vectors = np.load(folder / VECTORS)
    held = importlib.import_module("hnswlib").Index(space="l2", dim=vectors.shape[1])
    held.init_index(len(vectors), ef_construction=BUILD_BREADTH, M=NEIGHBORS)
    held.add_items(vectors)
    held.save_index(str(folder / "hnswlib"))


def _open_hnswlib(folder: Path) -> Search:
    held = importlib.import_module("hnswlib").Index(space="l2", dim=np.load(folder / QUERIES).shape[1])
    held.load_index(str(folder / "hnswlib"))
    held.set_ef(SEARCH_BREADTH)
    return lambda query: held.knn_query(query, TOP, num_threads=1)[0][0].astype(np.int64)


ENGINES = {
    "exact": Engine(_write_items, _open_ours),
    "faiss Flat": Engine(_build_flat, partial(_open_faiss, name=FLAT)),
    "HNSW": Engine(_add_graph, _open_ours),
    "faiss HNSW": Engine(None, partial(_open_faiss, name=BARE)),
    "usearch": Engine(_build_usearch, _open_usearch, "usearch"),
    "hnswlib": Engine(_build_hnswlib, _open_hnswlib, "hnswlib"),
}
"""All of them, in the order in which they are built: HNSW has the items of exact, and faiss HNSW the graph of HNSW"""
