"""Searching a large index, on a few thousand vectors, and a server with several clients."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import crowd, hostile_load, searching
from benchmarks.measure import record, recorded
from xmr_e2e.errors import XmrError
from xmr_e2e.models.saved_model import load
from xmr_e2e.search.index import Index
from xmr_e2e.search.indexing import make_index

pytest_plugins = ["tests.helpers.searched"]
pytestmark = [pytest.mark.slow, pytest.mark.processes]


def test_every_kind_of_index_is_measured_beside_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    figure = searching.index(repeats=2, items=4000, dims=24, queries=60)
    record(figure)
    assert recorded() == [figure] and figure.name == "index" and len(figure.ratios) == 2
    assert figure.goal == "at most 1.2, recall@10 at least 0.95"
    remarks = dict(remark.split(": ", 1) for remark in figure.notes)
    assert [*remarks] == ["exact", "faiss Flat", "HNSW", "faiss HNSW", "usearch", "hnswlib"]
    missing = {name for name in ("usearch", "hnswlib") if importlib.util.find_spec(name) is None}
    assert {name for name, remark in remarks.items() if remark == "left out, it is not installed"} == missing
    recalls = {name: float(remark.split()[-1]) for name, remark in remarks.items() if name not in missing}
    assert recalls["exact"] == recalls["faiss Flat"] == 1
    assert min(recalls.values()) >= 0.95
    # Both are asked of the same graph.
    assert recalls["HNSW"] == recalls["faiss HNSW"] and "built in" not in remarks["faiss HNSW"]
    assert all(re.search(r"p50 [\d.]+ ms, p99 [\d.]+ ms", remarks[name]) for name in recalls)
    assert not [*(tmp_path / "build/benchmarks").glob("index-*")]


def test_what_is_left_out_is_not_built_and_all_else_is_told_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "STILL_S", 0.001)  # less than a process takes to be there
    figure = searching.index(repeats=1, items=500, dims=8, queries=10, beside=())
    assert [remark.split(":")[0] for remark in figure.notes] == ["HNSW", "faiss HNSW"]
    told = " ".join(capfd.readouterr().err.split())
    assert all(remark in told for remark in figure.notes) and "usearch" not in told
    assert told.index("building HNSW") < told.index("HNSW is still at it") < told.index("asking HNSW and faiss HNSW")


def test_too_little_recall_is_no_goal_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "LEAST_RECALL", 1.1)
    monkeypatch.setattr(searching, "_alone", lambda folder, name, exact: f"{name}: not asked")
    figure = searching.index(repeats=1, items=500, dims=8, queries=10)
    assert not figure.is_met and figure.goal.endswith("at least 1.1")


def test_vectors_stand_around_centers_and_queries_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(searching, "CHUNK", 300)
    with searching.drawn(1000, 16, 20) as folder:
        vectors, queries = (np.load(folder / name) for name in (searching.VECTORS, searching.QUERIES))
    assert vectors.shape == (1000, 16) and queries.shape == (20, 16) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert len(np.unique(np.concatenate([vectors, queries]), axis=0)) == 1020


def test_an_engine_that_ends_is_named(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match="faiss HNSW has ended"):
        with searching._running(tmp_path, "faiss HNSW"):
            pass


@pytest.fixture(scope="module")
def indexed_run(learnt_run: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(learnt_run, tmp_path_factory.mktemp("indexed") / "run"))
    make_index(load(run), run, tiny_shards, run / "index", splits=["test"])
    return run


def test_an_ordinary_client_is_answered_beside_hostile_ones(indexed_run: Path) -> None:
    load = hostile_load.measure(indexed_run, seconds=2.0, side=400, bombs=1, large=1, silent=5)
    assert load.asked == load.answered >= 1 and load.share == 1
    assert load.peak_mb >= load.quiet_mb > 100 and load.hostile.get("200", 0) > 0


def test_each_of_several_clients_gets_its_answers(indexed_run: Path) -> None:
    found = crowd.measure(indexed_run, clients=5, seconds=1.0)
    assert found.clients == 5 and found.answered == found.asked >= 5
    assert 0 < found.median_s <= found.p99_s <= found.longest_s < 30
    assert found.per_second > 0 and found.peak_mb > 100


def test_a_drawn_index_is_asked_in_the_place_of_the_runs(
    indexed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with crowd.drawn_index(indexed_run, 300) as folder:
        assert len(Index(folder)) == 300 and Index(folder).is_approximate
    found = crowd.measure(indexed_run, clients=2, seconds=1.0, items=300)
    assert found.answered == found.asked >= 2
    assert not [*(tmp_path / "build/benchmarks").glob("index-*")]
