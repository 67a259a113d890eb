"""Every figure against another library's: scikit-learn, torchmetrics, trec_eval by ir-measures, SciPy.

Their tie rules are others. Where scores are equal they get the ranks as scores, from rankings that loops over exact
integers made.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ir_measures
import numpy as np
import pytest
import torch
from ir_measures import AP, P, ScoredDoc, Success, nDCG
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
)

from tests.helpers.problems import Problem, mean, pieces
from xmr_e2e.evaluation.figures import RetrievalMetrics
from xmr_e2e.evaluation.metrics import mean_average_precision, ndcg, precision_recall_curve
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.evaluation.retrieval import MetricSpec, average_metrics, random_metrics, retrieval_metrics

SIZES = [(17, 60), (60, 17), (25, 25)]
"""queries and items"""
MEASURES = MetricSpec(map_ks=(5, 50), ndcg_ks=(4, 500), recall_ks=(1, 3), scope_ks=(1, 3, 10, 17, 100))


class Case(Problem):
    """Also of pairs: each item belongs to one of 30 samples, of which some queries have several items, others none."""

    def __init__(self, queries: int, gallery: int, *, multi_hot: bool) -> None:
        super().__init__(queries, gallery, multi_hot=multi_hot, seed=queries)
        rng = np.random.default_rng(gallery)
        self.query_ids = [f"sample {number}" for number in rng.integers(0, 30, queries)]
        self.gallery_ids = [f"sample {number}" for number in rng.integers(0, 30, gallery)]

    def metrics(self, **options: Any) -> RetrievalMetrics:
        ids = {"query_ids": self.query_ids, "gallery_ids": self.gallery_ids}
        with pieces(4, 50, (3, 7)):
            return retrieval_metrics(*self.arguments, **ids, similarity="dot", spec=MEASURES, **options)

    def rankings(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each query, the number of shared labels and whether it is the pair, at each rank."""
        for row, (query, name) in enumerate(zip(self.queries.astype(int).tolist(), self.query_ids)):
            dots = [sum(a * b for a, b in zip(query, item)) for item in self.gallery.astype(int).tolist()]
            order = sorted(range(len(dots)), key=lambda index: (-dots[index], index))
            gains = self.query_labels[row] == self.gallery_labels
            if gains.ndim == 2:
                gains = (self.gallery_labels * self.query_labels[row]).sum(1)
            yield np.asarray(gains, int)[order], np.array(self.gallery_ids)[order] == name


@pytest.fixture(scope="module", params=[(*size, form) for size in SIZES for form in (False, True)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    queries, gallery, multi_hot = request.param
    return Case(queries, gallery, multi_hot=multi_hot)


def test_the_cases_have_ties_queries_without_relevant_items_and_several_pairs(case: Case) -> None:
    scores = case.queries @ case.gallery.T
    assert all(len(np.unique(row)) < len(row) for row in scores)
    metrics = case.metrics()
    assert 0 < metrics.queries_without_relevant < metrics.queries
    paired = np.array([pairs.sum() for _, pairs in case.rankings()])
    assert (paired == 0).any() and (paired > 1).any()
    assert metrics.queries_with_pair == (paired > 0).sum()


@pytest.mark.slow
def test_figures_by_label_equal_scikit_learn_and_torchmetrics(case: Case) -> None:
    metrics = case.metrics()
    by_rank = -np.arange(len(case.gallery), dtype=float)
    scores = torch.from_numpy(by_rank - by_rank.min() + 1)
    gains = [gain for gain, _ in case.rankings()]
    relevant = [torch.from_numpy(gain > 0) for gain in gains]
    expected = {
        "mAP@all": mean(average_precision_score(gain > 0, by_rank) if gain.any() else 0.0 for gain in gains),
        "mAP@5": mean(float(retrieval_average_precision(scores, truth, top_k=5)) for truth in relevant),
        "mAP@50": mean(float(retrieval_average_precision(scores, truth, top_k=50)) for truth in relevant),
        "NDCG@4": mean(ndcg_score([gain], [by_rank], k=4) for gain in gains),
        "NDCG@500": mean(ndcg_score([gain], [by_rank], k=500) for gain in gains),
    }
    assert {name: metrics.scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    exact = ("mAP@all", "NDCG@4", "NDCG@500")  # torchmetrics sums in fp32
    assert [metrics.scores[name] for name in exact] == pytest.approx([expected[name] for name in exact], abs=1e-12)
    graded = (retrieval_normalized_dcg(scores, torch.from_numpy(gain), top_k=4) for gain in gains)
    assert metrics.scores["NDCG@4"] == pytest.approx(mean(map(float, graded)), abs=1e-6)
    for k, precision in zip(metrics.scope.k, metrics.scope.precision):
        assert precision == pytest.approx(mean(float(retrieval_precision(scores, truth, k)) for truth in relevant))
    assert metrics.scope.k == [k for k in MEASURES.scope_ks if k <= len(case.gallery)]


def test_figures_by_label_and_by_pair_equal_trec_eval(case: Case) -> None:
    relevant, paired = [gain for gain, _ in case.rankings()], [pairs for _, pairs in case.rankings()]
    by_label = trec([AP, AP @ 5, nDCG @ 4, P @ 10], relevant)
    metrics = case.metrics(), case.metrics()
    assert metrics[0].scores["mAP@all"] == pytest.approx(by_label[AP], abs=1e-9)
    assert metrics[0].scores["NDCG@4"] == pytest.approx(by_label[nDCG @ 4], abs=1e-9)
    assert metrics[0].scope.precision[2] == pytest.approx(by_label[P @ 10], abs=1e-9)
    given = {"similarity": "dot", "k": 5, "normaliser": "all_relevant"}
    assert mean_average_precision(*case.arguments, **given) == pytest.approx(by_label[AP @ 5], abs=1e-9)  # type: ignore[arg-type]
    by_pair = trec([Success @ 1, Success @ 3], [row for row in paired if row.any()])
    assert metrics[0].scores["R@1"] == pytest.approx(by_pair[Success @ 1], abs=1e-9)
    assert metrics[0].scores["R@3"] == pytest.approx(by_pair[Success @ 3], abs=1e-9)


def test_the_curve_equals_trec_evals_interpolated_precision() -> None:
    # trec_eval rounds the wanted number of relevant items by adding 0.9, so each query has 20, of which all levels are
    # whole numbers
    rng = np.random.default_rng(0)
    queries, gallery = rng.standard_normal((30, 6)), rng.standard_normal((80, 6))
    labels = rng.integers(0, 4, 30), np.arange(80) % 4
    order = np.argsort(-(queries @ gallery.T), axis=1)
    levels = [ir_measures.parse_measure(f"IPrec@{level / 10}") for level in range(11)]
    expected = trec(levels, [(labels[1][row] == label).astype(int) for row, label in zip(order, labels[0])])
    curve = precision_recall_curve(queries, gallery, *labels, similarity="dot")
    assert curve.recall[::2] == pytest.approx([level / 10 for level in range(11)])
    assert curve.precision[::2] == pytest.approx([expected[level] for level in levels], abs=1e-9)


def trec(spec: list[Any], relevance: list[np.ndarray]) -> dict[Any, float]:
    """What trec_eval says of rankings: the relevance at each rank, of each query."""
    judged = {
        str(query): {f"d{rank}": int(gain) for rank, gain in enumerate(row)} for query, row in enumerate(relevance)
    }
    run = [
        ScoredDoc(str(query), f"d{rank}", float(len(row) - rank))
        for query, row in enumerate(relevance)
        for rank in range(len(row))
    ]
    return dict(ir_measures.pytrec_eval.calc_aggregate(spec, judged, run))


def test_figures_by_pair_equal_torchmetrics_and_numpy(case: Case) -> None:
    metrics = case.metrics()
    scores = torch.arange(len(case.gallery), 0, -1).double()
    paired = [pairs for _, pairs in case.rankings() if pairs.any()]
    for k in (1, 3):
        hits = (float(retrieval_hit_rate(scores, torch.from_numpy(pairs), top_k=k)) for pairs in paired)
        assert metrics.scores[f"R@{k}"] == pytest.approx(mean(hits), abs=1e-7)
    assert metrics.scores["MedR"] == np.median([1 + pairs.argmax() for pairs in paired])


def test_the_correlation_of_pairs_equals_scipy(case: Case) -> None:
    rng, other = np.random.default_rng(1), copy.copy(case)
    other.queries, other.gallery = (rng.standard_normal((len(side), 9)) for side in (case.queries, case.gallery))
    alike = [
        pearsonr(query, item).statistic
        for query, name in zip(other.queries, case.query_ids)
        for item, owner in zip(other.gallery, case.gallery_ids)
        if name == owner
    ]
    assert other.metrics().scores["Pearson"] == pytest.approx(mean(alike), abs=1e-12)


def test_precision_of_a_class_is_that_of_the_queries_that_have_it(case: Case) -> None:
    by_rank = -np.arange(len(case.gallery))
    values = [average_precision_score(gain > 0, by_rank) if gain.any() else 0.0 for gain, _ in case.rankings()]
    own = [[int(label)] if np.ndim(label) == 0 else np.flatnonzero(label) for label in case.query_labels]
    expected = {
        name: mean(value for value, names in zip(values, own) if name in names)
        for name in {n for row in own for n in row}
    }
    assert case.metrics().per_class == pytest.approx(expected, abs=1e-12)


def test_the_discount_of_the_released_coco_evaluation_equals_loops(case: Case) -> None:
    offsets = np.arange(len(case.queries)) % 5
    discount = Discount(5, torch.from_numpy(offsets))
    k = 4

    def discounted(gains: list[int], offset: int) -> float:
        return math.fsum(gain / math.log2(5 * rank + offset + 2) for rank, gain in enumerate(gains[:k]))

    values = []
    for (gains, _), offset in zip(case.rankings(), offsets.tolist()):
        ideal = discounted(sorted(gains.tolist(), reverse=True), offset)
        values.append(discounted(gains.tolist(), offset) / ideal if ideal else 0.0)
    metrics = case.metrics(ndcg_discount=discount)
    assert metrics.scores["NDCG@4"] == pytest.approx(mean(values), abs=1e-12)
    assert metrics.scores["NDCG@4"] != pytest.approx(case.metrics().scores["NDCG@4"], abs=1e-4)
    assert ndcg(*case.arguments, similarity="dot", k=k, discount=discount) == metrics.scores["NDCG@4"]
    assert Discount().words == Discount(1, None).words == "log2(r + 1)"
    assert discount.words == "log2(5 (r - 1) + i + 2)"


def test_an_average_is_over_the_figures_that_there_are() -> None:
    larger, smaller = Case(60, 60, multi_hot=True).metrics(), Case(17, 17, multi_hot=True).metrics()
    both = average_metrics([larger, smaller])
    assert both.scores["MedR"] == (larger.scores["MedR"] + smaller.scores["MedR"]) / 2
    assert both.scope.k == [1, 3, 10, 17]
    pairs = zip(both.scope.precision, larger.scope.precision, smaller.scope.precision)
    assert all(middle == pytest.approx((a + b) / 2) for middle, a, b in pairs)
    assert both.curve.precision[3] == pytest.approx((larger.curve.precision[3] + smaller.curve.precision[3]) / 2)
    assert (both.queries, both.gallery) == (38, 38)
    assert average_metrics([larger, larger]) == replace(larger, standard_errors={})  # a mean over means has others
    smaller.per_class.pop(0)
    assert average_metrics([larger, smaller]).per_class[0] == larger.per_class[0]


def test_random_figures_have_all_but_the_correlation() -> None:
    ids = {"query_ids": range(60), "gallery_ids": range(60)}
    labels = np.arange(60) % 3
    random = random_metrics(labels, labels, **ids, seeds=range(30))
    assert set(random.scores) == {*MetricSpec().names, "MedR"}
    assert random.scores["MedR"] == pytest.approx(30.5, abs=2)
    assert random.scope.precision == pytest.approx([1 / 3] * 6, abs=0.03)
    assert random.scope.k == [1, 2, 5, 10, 20, 50]
    assert random.per_class.keys() == {0, 1, 2}


def test_standard_errors_are_those_of_means_over_queries() -> None:
    metrics = Case(60, 60, multi_hot=True).metrics()
    generator = np.random.default_rng(0)
    labels = generator.integers(4, size=50)
    queries, gallery = (generator.standard_normal((50, 6)) for _ in range(2))
    found = retrieval_metrics(queries, gallery, labels, labels, query_ids=range(50), gallery_ids=range(50))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    hits = labels[order] == labels[:, None]
    precision = [(np.cumsum(row) / np.arange(1, 51))[row].mean() for row in hits]
    assert found.standard_errors["mAP@all"] == pytest.approx(np.std(precision, ddof=1) / 50**0.5)
    at_5 = [query in row[:5] for query, row in enumerate(order.tolist())]
    assert found.standard_errors["R@5"] == pytest.approx(np.std(at_5, ddof=1) / 50**0.5)
    assert metrics.standard_errors.keys() == metrics.scores.keys() - {"MedR", "Pearson"}
