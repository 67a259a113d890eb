"""The chunked metrics against explicit loops and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.helpers.problems import Problem, mean, pieces, shared
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation import ranking
from xmr_e2e.evaluation.labels import LabelPair
from xmr_e2e.evaluation.metrics import mean_average_precision, ndcg, precision_recall_curve, recall_at_k
from xmr_e2e.evaluation.ranking import random_ranking, ranked_relevance
from xmr_e2e.evaluation.retrieval import MetricSpec, random_metrics, retrieval_metrics

SIMILARITIES = ["cosine", "pearson", "dot", "euclidean"]
NORMALISERS = ["relevant_in_top_k", "all_relevant", "min_k_relevant"]
SIZES = [(7, 30), (30, 7), (13, 13)]


def naive_average_precision(gains: list[int], k: int | None, normaliser: str) -> float:
    k = len(gains) if k is None else k
    hits, total = 0, 0.0
    for rank, gain in enumerate(gains[:k], start=1):
        if gain:
            hits += 1
            total += hits / rank
    relevant = sum(gain > 0 for gain in gains)
    divisor = {"relevant_in_top_k": hits, "all_relevant": relevant, "min_k_relevant": min(k, relevant)}[normaliser]
    return total / divisor if divisor else 0.0


def naive_ndcg(gains: list[int], k: int) -> float:
    def discounted(ordered: list[int]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(ordered[:k], start=1))

    ideal = discounted(sorted(gains, reverse=True))
    return discounted(gains) / ideal if ideal else 0.0


def naive_precision_at_recall(gains: list[int], percent: int) -> float:
    relevant = sum(gain > 0 for gain in gains)
    best, hits = 0.0, 0
    for rank, gain in enumerate(gains, start=1):
        hits += gain > 0
        if relevant and 100 * hits >= percent * relevant:
            best = max(best, hits / rank)
    return best


def naive_scores(queries: np.ndarray, gallery: np.ndarray, similarity: str) -> np.ndarray:
    pairwise: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b),
        "pearson": lambda a, b: np.corrcoef(a, b)[0, 1],
        "dot": lambda a, b: a @ b,
        "euclidean": lambda a, b: -np.linalg.norm(a - b),
    }
    return np.array([[pairwise[similarity](a, b) for b in gallery] for a in queries.astype(np.float64)])


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize(("queries", "gallery"), SIZES)
def test_map_equals_scikit_learn_with_ties_broken_in_gallery_order(queries: int, gallery: int, multi_hot: bool) -> None:
    problem = Problem(queries, gallery, multi_hot=multi_hot)
    by_rank = -np.arange(gallery)  # scikit-learn shares credit between ties: give it the ranks as scores
    expected = mean(average_precision_score(np.array(row) > 0, by_rank) if any(row) else 0.0 for row in problem.gains())
    assert mean_average_precision(*problem.arguments, similarity="dot") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_map_of_random_embeddings_equals_scikit_learn(similarity: Any, multi_hot: bool) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((40, 8)), rng.standard_normal((60, 8))
    size = (5,) if multi_hot else ()
    query_labels, gallery_labels = rng.integers(0, 2, (40, *size)), rng.integers(0, 2, (60, *size))
    scores = naive_scores(queries, gallery, similarity)
    assert len(np.unique(scores.astype(np.float32))) == scores.size  # no ties, so that every tie rule agrees
    truth = [[shared(a, b) > 0 for b in gallery_labels] for a in query_labels]
    expected = mean(average_precision_score(*row) if any(row[0]) else 0.0 for row in zip(truth, scores, strict=True))
    actual = mean_average_precision(queries, gallery, query_labels, gallery_labels, similarity=similarity)
    assert actual == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("multi_hot", [False, True])
@pytest.mark.parametrize(("queries", "gallery"), SIZES)
@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("k", [1, 5, 50, None])
def test_map_at_k_equals_loops(queries: int, gallery: int, multi_hot: bool, normaliser: Any, k: int | None) -> None:
    problem = Problem(queries, gallery, multi_hot=multi_hot)
    expected = mean(naive_average_precision(row, k, normaliser) for row in problem.gains())
    actual = mean_average_precision(*problem.arguments, similarity="dot", k=k, normaliser=normaliser)
    assert actual == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@given(
    queries=st.integers(1, 9),
    gallery=st.integers(1, 12),
    multi_hot=st.booleans(),
    block=st.integers(1, 10),
    chunk=st.integers(1, 40),
    tile=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    k=st.integers(1, 14),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_every_metric_equals_loops_for_any_sizes_and_pieces(
    queries: int, gallery: int, multi_hot: bool, block: int, chunk: int, tile: tuple[int, int], k: int, seed: int
) -> None:
    problem = Problem(queries, gallery, multi_hot=multi_hot, seed=seed)
    gains = problem.gains()
    with pieces(block, chunk, tile):
        found = [
            mean_average_precision(*problem.arguments, similarity="dot", k=k, normaliser=normaliser)  # type: ignore[arg-type]
            for normaliser in NORMALISERS
        ]
        found += [metric(*problem.arguments, similarity="dot", k=k) for metric in (ndcg, recall_at_k)]
        curve = precision_recall_curve(*problem.arguments, similarity="dot")
    expected = [mean(naive_average_precision(row, k, normaliser) for row in gains) for normaliser in NORMALISERS]
    expected += [mean(naive_ndcg(row, k) for row in gains), mean(any(row[:k]) for row in gains)]
    assert found == pytest.approx(expected, abs=1e-12)
    levels = range(0, 101, 5)
    assert curve.recall == pytest.approx([level / 100 for level in levels])
    assert curve.precision == pytest.approx(
        [mean(naive_precision_at_recall(row, level) for row in gains) for level in levels], abs=1e-12
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_ranking_follows_the_named_similarity(similarity: Any) -> None:
    rng = np.random.default_rng(2)
    queries, gallery = rng.standard_normal((9, 6)) + 1, 3 * rng.standard_normal((20, 6))
    labels = np.zeros(9, int), np.zeros(20, int)
    with pieces(4, 25, (3, 7)):
        chunks = list(ranked_relevance(queries, gallery, *labels, similarity=similarity))
    indices = torch.cat([ranked.indices for ranked in chunks]).numpy()
    assert (indices == np.argsort(-naive_scores(queries, gallery, similarity), axis=1)).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("tile", [(1, 1), (3, 10), (512, 1024)])
def test_identical_items_rank_in_gallery_order(similarity: Any, tile: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    distinct = torch.randn(11, 37, generator=generator)
    gallery = distinct.repeat(7, 1)  # item i, i + 11, i + 22, ... are the same
    queries = torch.cat([torch.randn(5, 37, generator=generator), distinct[:3]])
    labels = torch.zeros(len(queries), dtype=torch.long), torch.zeros(len(gallery), dtype=torch.long)
    with pieces(tile=tile):
        chunks = list(ranked_relevance(queries, gallery, *labels, similarity=similarity))
    for ranked in chunks:
        for row in ranked.indices.tolist():
            for first in range(11):
                copies = [index for index in row if index % 11 == first]
                assert copies == sorted(copies)
                assert row.index(copies[-1]) - row.index(copies[0]) == 6


def test_the_bounds_hold_whatever_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_KEYS", 1000)
    monkeypatch.setattr(ranking, "CHUNK_KEYS", {"cpu": 100})
    held: list[int] = []
    empty_keys = ranking._empty_keys
    monkeypatch.setattr(ranking, "_empty_keys", lambda *size: held.append(size[0] * size[1]) or empty_keys(*size))
    for queries, gallery, rows in [(25, 30, 3), (25, 300, 1), (2, 3000, 1), (2, 30, 2)]:
        labels = np.zeros(queries, int), np.zeros(gallery, int)
        chunks = list(ranked_relevance(np.ones((queries, 2)), np.ones((gallery, 2)), *labels))
        assert max(len(chunk.keys) for chunk in chunks) == rows
        assert [row for chunk in chunks for row in range(chunk.rows.start, chunk.rows.stop)] == list(range(queries))
    assert held == [25 // 1 * 30, 3 * 300, 3000, 60]


def test_low_precision_and_autocast_still_give_fp32_scores() -> None:
    # bf16 has steps of 2 from 256 on: these three dot products would be equal there
    queries = torch.ones(1, 2, dtype=torch.bfloat16)
    gallery = torch.tensor([[256.0, 0.25], [256.0, 0.75], [256.0, 0.5]], dtype=torch.bfloat16)
    labels = torch.zeros(1, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            (ranked,) = ranked_relevance(queries, gallery, *labels, similarity="dot")
            (in_fp32,) = ranked_relevance(queries.float(), gallery.float(), *labels, similarity="dot")
        assert ranked.indices.tolist() == in_fp32.indices.tolist() == [[1, 2, 0]]


def test_scores_closer_than_fp32_are_ties() -> None:
    gallery = np.array([[1.0], [1.0 + 1e-12]])
    (ranked,) = ranked_relevance(np.ones((1, 1)), gallery, np.zeros(1, int), np.zeros(2, int), similarity="dot")
    assert ranked.indices.tolist() == [[0, 1]]


def test_tensors_that_require_grad_give_the_same_figures_as_arrays() -> None:
    problem = Problem(8, 12, multi_hot=True)
    tensors = [torch.from_numpy(values) for values in problem.arguments]
    tensors[0].requires_grad_()
    assert mean_average_precision(*tensors) == mean_average_precision(*problem.arguments)


@pytest.mark.parametrize("multi_hot", [False, True])
def test_shared_labels_are_counted_in_whole_numbers_also_where_autocast_is_on(multi_hot: bool) -> None:
    rows = np.random.default_rng(0).random((7, 600)) < 0.9
    queries, gallery = (rows[:4], rows[2:]) if multi_hot else (np.array([0, 1, 2, 1]), np.array([1, 1, 0, 5, 2]))
    pair = LabelPair(queries.astype(int), gallery.astype(int), torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        found = pair.shared(slice(1, 4), slice(0, 5))
    counts = queries.astype(int) @ gallery.T.astype(int) if multi_hot else (queries[:, None] == gallery).astype(int)
    assert found.dtype == torch.int32
    assert found.tolist() == counts[1:4].tolist()
    assert pair.most >= found.max()


def test_a_query_without_relevant_items_counts_zero_in_every_metric() -> None:
    queries, gallery = np.eye(2), np.eye(2)
    arguments = queries, gallery, np.array([0, 5]), np.array([0, 1])
    assert mean_average_precision(*arguments) == 0.5
    assert ndcg(*arguments) == 0.5
    assert recall_at_k(*arguments, k=2) == 0.5
    assert precision_recall_curve(*arguments).precision == [0.5] * 21
    metrics = retrieval_metrics(*arguments, query_ids=["a", "b"], gallery_ids=["a", "b"])
    assert metrics.queries_without_relevant == 1
    metrics = retrieval_metrics(
        np.eye(3), np.eye(3), np.array([0, 1, 5]), np.arange(3), query_ids=list("abc"), gallery_ids=list("abc")
    )
    assert metrics.queries_without_relevant == 1


def test_without_labels_there_are_the_metrics_of_pairs_alone() -> None:
    none = np.zeros((3, 0), int)
    metrics = retrieval_metrics(np.eye(3), np.eye(3), none, none, query_ids=list("abc"), gallery_ids=list("abc"))
    assert metrics.scores["R@1"] == 1 and "mAP@all" not in metrics.scores
    assert metrics.queries_with_pair == 3 and not metrics.per_class


def test_one_pass_gives_what_the_single_metrics_give() -> None:
    problem = Problem(23, 31, multi_hot=True)
    rng = np.random.default_rng(5)
    problem.queries, problem.gallery = rng.standard_normal((23, 4)), rng.standard_normal((31, 4))
    query_ids, gallery_ids = np.arange(23), np.arange(31)[::-1] // 2
    spec = MetricSpec(map_ks=(3, 50), ndcg_ks=(4, 500))
    metrics = retrieval_metrics(
        *problem.arguments, query_ids=query_ids, gallery_ids=gallery_ids, similarity="pearson", spec=spec
    )
    expected = {f"mAP@{k}": mean_average_precision(*problem.arguments, similarity="pearson", k=k) for k in (3, 50)}
    expected |= {"mAP@all": mean_average_precision(*problem.arguments, similarity="pearson")}
    expected |= {f"NDCG@{k}": ndcg(*problem.arguments, similarity="pearson", k=k) for k in (4, 500)}
    by_pair = problem.queries[:16], problem.gallery, query_ids[:16], gallery_ids  # the others have none
    expected |= {f"R@{k}": recall_at_k(*by_pair, similarity="pearson", k=k) for k in (1, 5, 10)}
    assert {name: metrics.scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert set(metrics.scores) == set(spec.names) | {"MedR", "Pearson"}
    curve = precision_recall_curve(*problem.arguments, similarity="pearson")
    assert metrics.curve.precision == pytest.approx(curve.precision, abs=1e-12)
    assert (metrics.queries, metrics.gallery, metrics.queries_with_pair) == (23, 31, 16)


def test_recall_counts_the_queries_that_have_a_pair_in_the_gallery() -> None:
    queries, gallery = np.array([[1.0], [1.0], [1.0]]), np.array([[3.0], [2.0]])  # every query ranks item 0 first
    arguments = queries, gallery, np.zeros(3, int), np.zeros(2, int)
    for gallery_ids, first in [(("b", "x"), 1.0), (("x", "b"), 0.0), (("a", "b"), 0.5)]:
        metrics = retrieval_metrics(*arguments, query_ids=["a", "b", "c"], gallery_ids=gallery_ids, similarity="dot")
        assert (metrics.scores["R@1"], metrics.scores["R@5"]) == (first, 1.0)
    alone = retrieval_metrics(*arguments, query_ids=["a", "b", "c"], gallery_ids=["x", "y"])
    assert set(alone.scores) == {"mAP@all", "mAP@50", "NDCG@500"}
    assert alone.queries_with_pair == 0


def test_random_rankings_are_permutations_that_only_the_seed_moves() -> None:
    labels = LabelPair(np.arange(10), np.arange(17), torch.device("cpu"))

    def indices(seed: int, first: int = 0) -> torch.Tensor:
        chunks = random_ranking(labels, seed).chunks(slice(first, 10), lambda chunk: chunk.indices)
        return torch.cat(list(chunks))

    assert (indices(0).sort(1).values == torch.arange(17)).all()
    assert len({tuple(row) for row in indices(0).tolist()}) == 10
    with pieces(block=3, chunk=40):
        in_pieces = indices(0)
    assert torch.equal(in_pieces, indices(0))
    assert torch.equal(indices(0, first=7), indices(0)[7:])  # as the last of several processes draws them
    assert not torch.equal(indices(1), indices(0))


def test_random_map_is_near_its_expectation() -> None:
    # E[AP] for R relevant among N: position r holds a relevant item with probability R / N, and then
    # (r - 1)(R - 1) / (N - 1) of those before it are expected to be relevant
    count, classes = 200, 5
    labels = np.arange(count) % classes
    relevant = count // classes
    harmonic = sum(1 / rank for rank in range(1, count + 1))
    expected = (harmonic + (relevant - 1) / (count - 1) * (count - harmonic)) / count
    ids = range(count)
    metrics = random_metrics(labels, labels, query_ids=ids, gallery_ids=ids, seeds=range(20))
    assert metrics.scores["mAP@all"] == pytest.approx(expected, abs=2e-3)
    assert metrics.scores["R@10"] == pytest.approx(10 / count, abs=0.015)


def test_random_ndcg_is_near_its_expectation() -> None:
    # a rank holds a random item, so its expected gain is the mean gain of the gallery
    rng = np.random.default_rng(6)
    labels = (rng.random((150, 6)) < 0.3).astype(float)
    labels[:, 0] = 1
    k = 20
    discount = [1 / math.log2(rank + 1) for rank in range(1, k + 1)]
    gains = labels @ labels.T
    ideal = [math.fsum(g * d for g, d in zip(sorted(row, reverse=True), discount)) for row in gains.tolist()]
    expected = mean(row.mean() * sum(discount) / best for row, best in zip(gains, ideal))
    ids = range(150)
    metrics = random_metrics(
        labels, labels, query_ids=ids, gallery_ids=ids, seeds=range(20), spec=MetricSpec(ndcg_ks=(k,))
    )
    assert metrics.scores[f"NDCG@{k}"] == pytest.approx(expected, abs=3e-3)


def test_diverged_embeddings_are_refused_by_name_and_row() -> None:
    gallery = np.ones((4, 2))
    gallery[2, 1] = np.nan
    with pytest.raises(XmrError, match=r"gallery: 1 of 4 .*row 2"):
        mean_average_precision(np.ones((3, 2)), gallery, np.zeros(3, int), np.zeros(4, int))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.ones((0, 2))}, "n > 0"),
        ({"gallery": np.ones((4, 3))}, "dimensions"),
        ({"query_labels": np.zeros(2, int)}, "labels"),
        ({"query_labels": np.zeros(3)}, "integers"),
        ({"query_labels": np.zeros((3, 2))}, "do not match"),
        ({"gallery_labels": np.full((4, 2), 0.5)}, "0 and 1"),
        ({"similarity": "manhattan"}, "manhattan"),
        ({"normaliser": "k"}, "normaliser"),
        ({"k": 0}, "at least 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "queries": np.ones((3, 2)),
        "gallery": np.ones((4, 2)),
        "query_labels": np.zeros(3, int),
        "gallery_labels": np.zeros(4, int),
    }
    with pytest.raises(ValueError, match=message):
        mean_average_precision(**(arguments | change))


@pytest.mark.gpu
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_gpu_gives_the_ranking_of_the_cpu(similarity: Any) -> None:
    problem = Problem(50, 3000, multi_hot=True)
    on_gpu = [torch.from_numpy(values).cuda() for values in problem.arguments]
    here, there = (
        torch.cat([chunk.keys.cpu() for chunk in ranked_relevance(*arguments, similarity=similarity)])
        for arguments in (problem.arguments, on_gpu)
    )
    assert torch.equal(here, there)
    ids = range(50), range(3000)
    metrics = [
        retrieval_metrics(*arguments, query_ids=ids[0], gallery_ids=ids[1], similarity=similarity)
        for arguments in (problem.arguments, on_gpu)
    ]
    assert metrics[0].scores == pytest.approx(metrics[1].scores, abs=1e-12)


def test_labels_become_numbers_only_where_each_sample_has_one() -> None:
    one, two, mixed = np.eye(3, dtype=int), 1 - np.eye(3, dtype=int), np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    for queries, gallery, dims in ((one, one, 1), (two, two, 2), (one, two, 2), (two, one, 2), (mixed, one, 2)):
        pair = LabelPair(queries, gallery, torch.device("cpu"))
        assert pair.queries.ndim == pair.gallery.ndim == dims


def test_ndcg_is_cut_at_500_as_the_papers_cut_it() -> None:
    random = np.random.default_rng(0)
    given = random.normal(size=(40, 4)), random.normal(size=(600, 4)), np.arange(40) % 2, np.arange(600) % 2
    assert ndcg(*given) == ndcg(*given, k=500) != ndcg(*given, k=501)
