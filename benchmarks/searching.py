"""An index of a million embeddings: what searching it costs beside faiss used bare, and beside other libraries.

Each library builds its index and is asked in processes of its own, so that the memory is its own; ours and faiss are
asked in turn, of the same graph.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import BUILD, REPEATS, Figure, Goal, Quantity, memory_mb, metric_of, seconds
from benchmarks.search_engines import ENGINES, QUERIES, TOP, VECTORS, Rows, Search, begin
from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.parallel import without_main
from xmr_e2e.similarity import Similarity

LEAST_RECALL = 0.95
Beside: TypeAlias = Literal["exact", "usearch", "hnswlib"]
BESIDE: tuple[Beside, ...] = ("exact", "usearch", "hnswlib")
STILL_S = 60.0
"""after which a person is told that an engine is still at work"""
CENTERS, DIRECTIONS = 1000, 32
"""of the drawn vectors: the clusters, and the directions in which one of them varies"""
SPREAD, NOISE = 2.0, 0.1
"""of a cluster along its directions and along all others, where centers have 1 along each"""
CHUNK = 20_000
"""vectors that are drawn at a time"""


_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["benchmarks.searching"])


@dataclass(frozen=True)
class Asked:
    """One pass over the queries."""

    milliseconds: Sequence[float]
    found: NDArray[np.int64]
    """(n, TOP)"""

    def percentile(self, which: float) -> float:
        return float(np.percentile(self.milliseconds, which))


def index(
    *,
    repeats: int = REPEATS,
    items: int = 1_000_000,
    dims: int = 512,
    queries: int = 1_000,
    similarity: Similarity = "cosine",
    beside: tuple[Beside, ...] = BESIDE,
) -> Figure:
    """99th percentile of the time of a query to our approximate index, against the same graph in faiss used bare.

    The remarks have building, memory, times and recall of all kinds, and of usearch and hnswlib where these are there.

    Args:
        repeats: of each measurement
        items: vectors in the index, drawn around 1,000 centers
        dims: of a vector
        queries: in each measurement; a tenth of them where all items are compared
        similarity: of our index; of vectors of length 1 all rank alike
        beside: what is measured beside HNSW, ours and faiss's: exact search, ours and faiss's, and other libraries
    """
    _say(f"drawing {items:,} x {dims} vectors and {queries:,} queries")
    with drawn(items, dims, queries) as folder:
        begin(folder, similarity)
        _say("comparing the queries with all vectors")
        exact = faiss.knn(np.load(folder / QUERIES), np.load(folder / VECTORS), TOP)[1]
        flat: Sequence[str] = ()
        if "exact" in beside:
            flat = _side_by_side(folder, ("exact", "faiss Flat"), exact[: max(1, queries // 10)], 1).remarks
        else:
            built(folder, "exact")  # the items, to which the graph is added
        graph = _side_by_side(folder, ("HNSW", "faiss HNSW"), exact, repeats)
        others = [_alone(folder, name, exact) for name in ("usearch", "hnswlib") if name in beside]
    sides = (Quantity(f"p99 of a query, HNSW, {items:,} x {dims}", "ms"), Quantity("faiss HNSW, bare", "ms"))
    pairs = [(ours.percentile(99), bare.percentile(99)) for ours, bare in zip(*graph.asked)]
    figure = metric_of("index", Goal("at most", 1.2), *sides, pairs)
    goal = f"{figure.goal}, recall@{TOP} at least {LEAST_RECALL}"
    figure = replace(figure, goal=goal, is_met=figure.is_met and graph.recall >= LEAST_RECALL)
    for remark in (*flat, *graph.remarks, *others):
        figure = figure.note(remark)
    return figure


@dataclass(frozen=True)
class Pair:
    """Ours and another, asked in turn."""

    asked: tuple[Sequence[Asked], Sequence[Asked]]
    recall: float
    """of ours"""
    remarks: Sequence[str]


def _side_by_side(folder: Path, names: tuple[str, str], exact: NDArray[np.int64], repeats: int) -> Pair:
    with _running(folder, names[0]) as ours, _running(folder, names[1]) as other:
        _say(f"asking {names[0]} and {names[1]} {len(exact):,} queries, {repeats} times")
        asked = [(ours.ask(len(exact)), other.ask(len(exact))) for _ in range(repeats)]
        costs = ours.cost(), other.cost()
    ours_asked, other_asked = zip(*asked)
    remarks = [_said(_remark(*each, exact)) for each in zip(names, costs, (ours_asked, other_asked))]
    return Pair((ours_asked, other_asked), _recall(ours_asked[0], exact), remarks)


def _alone(folder: Path, name: str, exact: NDArray[np.int64]) -> str:
    """The remark on a library that may be missing."""
    if importlib.util.find_spec(ENGINES[name].needs) is None:
        return _said(f"{name}: left out, it is not installed")
    with _running(folder, name) as engine:
        asked = engine.ask(len(exact))
        return _said(_remark(name, engine.cost(), [asked], exact))


def _remark(name: str, cost: str, asked: Sequence[Asked], exact: NDArray[np.int64]) -> str:
    half, late = (float(np.median([each.percentile(which) for each in asked])) for which in (50, 99))
    recall = _recall(asked[0], exact)
    return f"{name}: {cost}; p50 {half:.3g} ms, p99 {late:.3g} ms, recall@{TOP} {recall:.4f}"


def _recall(asked: Asked, exact: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(*rows)) / TOP for rows in zip(asked.found, exact)]))


def _say(words: str) -> None:
    """Tell a person where it stands, on stderr: all of it takes an hour."""
    console.print(f"{time.strftime('%H:%M:%S')} {words}", highlight=False, soft_wrap=True)


def _said(remark: str) -> str:
    """The remark, told at once, so that it is known even if nothing else will be."""
    _say(remark)
    return remark


# ---- vectors


@contextmanager
def drawn(items: int, dims: int, queries: int) -> Iterator[Path]:
    """A folder with the vectors and the queries, which are drawn alike; it is gone afterwards."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="index-", dir=BUILD) as folder:
        random = np.random.default_rng(0)
        centers, directions = (random.normal(size=(count, dims)) for count in (CENTERS, min(DIRECTIONS, dims)))
        for name, count in ((VECTORS, items), (QUERIES, queries)):
            rows = np.lib.format.open_memmap(Path(folder) / name, "w+", np.float32, (count, dims))
            for start in range(0, count, CHUNK):
                part = rows[start : start + CHUNK]
                part[:] = _around(centers, directions / np.sqrt(dims), len(part), random)
        yield Path(folder)


def _around(
    centers: NDArray[np.float64], directions: NDArray[np.float64], count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Vectors (count, d) of length 1."""
    rows = centers[random.integers(len(centers), size=count)] / np.sqrt(centers.shape[1])
    rows += SPREAD / np.sqrt(len(directions)) * random.normal(size=(count, len(directions))) @ directions
    rows += NOISE / np.sqrt(rows.shape[1]) * random.normal(size=rows.shape)
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


# ---- an engine in processes of its own


class _Process:
    """The other end of an engine that was opened.

    built: the remark on how it was built.
    """

    def __init__(self, name: str, pipe: Connection, built: str) -> None:
        self._name, self._pipe, self._built = name, pipe, built
        self._open_s: float = self._received()

    def ask(self, queries: int) -> Asked:
        """The answers to the first queries, one after the other."""
        self._pipe.send(queries)
        return Asked(*self._received())

    def cost(self) -> str:
        """Seconds, and the peak memory of its processes until now."""
        self._pipe.send(0)
        return f"{self._built}opened in {self._open_s:.1f} s and {self._received():,.0f} MB"

    def _received(self) -> Any:
        return _received(self._name, self._pipe)


@contextmanager
def _running(folder: Path, name: str) -> Iterator[_Process]:
    """An engine that has built its index, where it does, and opened it."""
    how = built(folder, name) if ENGINES[name].build else ""
    _say(f"opening {name}")
    with _started(_serve, folder, name) as pipe:
        yield _Process(name, pipe, how)
        pipe.send(None)


def built(folder: Path, name: str) -> str:
    """The remark on how long an engine has built its index, and with how much memory."""
    _say(f"building {name}")
    with _started(_build, folder, name) as pipe:
        return "built in {:.1f} s and {:,.0f} MB, ".format(*_received(name, pipe))


@contextmanager
def _started(work: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    here, there = _processes.Pipe()
    process = _processes.Process(target=work, args=(*arguments, there))
    with without_main():  # all other benchmarks, of which this one needs nothing
        process.start()
    there.close()
    try:
        yield here
        process.join()
    finally:
        process.kill()


def _received(name: str, pipe: Connection) -> Any:
    try:
        began = time.monotonic()
        while not pipe.poll(STILL_S):
            _say(f"{name} is still at it, for {(time.monotonic() - began) / 60:.0f} minutes now")
        return pipe.recv()
    except EOFError as error:
        raise XmrError(f"{name} has ended, for the reason above, or since memory is full") from error


def _build(folder: Path, name: str, pipe: Connection) -> None:
    build = ENGINES[name].build
    assert build is not None
    pipe.send((seconds(lambda: build(folder)), memory_mb("self", "VmHWM")))


def _serve(folder: Path, name: str, pipe: Connection) -> None:
    """Answer: how many queries to be asked, 0 for the peak memory, None for the end."""
    found: list[Search] = []
    pipe.send(seconds(lambda: found.append(ENGINES[name].open(folder))))
    queries = np.load(folder / QUERIES)
    while (count := pipe.recv()) is not None:
        pipe.send(_answers(found[0], queries[:count]) if count else memory_mb("self", "VmHWM"))


def _answers(search: Search, queries: Rows) -> tuple[list[float], NDArray[np.int64]]:
    rows: list[NDArray[np.int64]] = []
    times = [1000 * seconds(lambda query=query: rows.append(search(query))) for query in queries]  # type: ignore[misc]
    return times, np.stack(rows)
