"""The graph of an approximate index (HNSW) as plain numbers: they are checked before faiss gets them, which trusts what
it is given.

faiss's own files are not read. They hold any kind of index, also those that write to files which they name.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError

_HEAD = 3
"""numbers before the levels: links of an item above the lowest level, items, and the item where a search begins"""


def graph_bytes(index: Any) -> bytes:
    """The graph of a `faiss.IndexHNSWFlat`, without its rows: int32, little-endian.

    After the head, the number of levels of each item; then its neighbors, level by level from the lowest. A list of
    neighbors is filled with -1 at its end.
    """
    hnsw = index.hnsw
    levels = faiss.vector_to_array(hnsw.levels)
    head = np.array([hnsw.nb_neighbors(1), len(levels), hnsw.entry_point], np.int32)
    return np.concatenate([head, levels, faiss.vector_to_array(hnsw.neighbors)]).astype("<i4").tobytes()


def restore_graph(index: Any, graph: bytes, rows: NDArray[np.float32], where: str) -> int:
    """Fill an empty `faiss.IndexHNSWFlat` with the graph that `graph_bytes` gave of the first of these rows (n, d).

    Returns their number.

    Raises:
        XmrError: no such graph; begins with `where`.
    """
    hnsw = index.hnsw
    links, slots = hnsw.nb_neighbors(1), faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
    try:
        entry, levels, neighbors = _parse(graph, links, slots, most=len(rows))
    except ValueError as error:
        raise XmrError(
            f"{where}: no graph that can be used ({error}); make the index again with --overwrite"
        ) from error
    faiss.downcast_index(index.storage).add(rows[: len(levels)])
    index.ntotal = len(levels)
    faiss.copy_array_to_vector(levels, hnsw.levels)
    hnsw.prepare_level_tab(len(levels), True)  # offsets, and room for the neighbors
    faiss.memcpy(hnsw.neighbors.data(), faiss.swig_ptr(neighbors), neighbors.nbytes)
    hnsw.entry_point, hnsw.max_level = entry, int(levels[entry]) - 1
    return len(levels)


def _parse(
    graph: bytes, links: int, slots: NDArray[np.int64], *, most: int
) -> tuple[int, NDArray[np.int32], NDArray[np.int32]]:
    """The item where a search begins, the items' levels, and all their neighbors; ValueError for what would lead a
    search out of its arrays.

    slots: neighbors of an item of 0, 1, … levels.
    """
    numbers = np.frombuffer(graph, "<i4").astype(np.int32, copy=False)
    if len(numbers) < _HEAD:
        raise ValueError("it is cut off")
    own_links, count, entry = numbers[:_HEAD].tolist()
    if own_links != links:
        raise ValueError(f"its items have {own_links} links instead of {links}")
    if not 1 <= count <= min(most, len(numbers) - _HEAD):
        raise ValueError(f"it has {count:,} items, and there are {most:,}")
    levels, neighbors = (np.ascontiguousarray(part) for part in np.split(numbers[_HEAD:], [count]))
    if levels.min() < 1 or levels.max() >= len(slots):
        raise ValueError("an item's level is out of range")
    if not (0 <= entry < count and levels[entry] == levels.max()):
        raise ValueError("it does not begin at its highest level")
    offsets = np.concatenate([[0], np.cumsum(slots[levels])])
    if offsets[-1] != len(neighbors):
        raise ValueError(f"it has {len(neighbors):,} neighbors where {offsets[-1]:,} are expected")
    _check_neighbors(levels, neighbors, offsets[:-1], slots)
    return entry, levels, neighbors


def _check_neighbors(
    levels: NDArray[np.int32], neighbors: NDArray[np.int32], offsets: NDArray[np.int64], slots: NDArray[np.int64]
) -> None:
    if neighbors.min() < -1 or neighbors.max() >= len(levels):
        raise ValueError("a neighbor is out of range")
    begins = np.zeros(len(neighbors), bool)
    for level in range(int(levels.max())):
        starts = offsets[levels > level] + slots[level]
        begins[starts] = True
        # An item has no list on a level above its own: faiss would take the next item's, or what follows the last one.
        found = neighbors[starts[:, None] + np.arange(slots[level + 1] - slots[level])] if level else neighbors[:0]
        if (levels[found[found >= 0]] <= level).any():
            raise ValueError(f"a neighbor is not on level {level}")
    # Where an item is added to a full list, faiss takes all of it for items.
    if ((neighbors[:-1] < 0) & (neighbors[1:] >= 0) & ~begins[1:]).any():
        raise ValueError("a list of neighbors has a gap")
