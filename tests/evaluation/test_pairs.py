"""Pairs of a query and the items of its sample, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.embedded import embedded_split
from xmr_e2e.evaluation.pairs import Ids, Pairs, mean_correlation

CPU = torch.device("cpu")
QUERIES, GALLERY = ["b", "x", "a", "b"], ["a", "b", "c", "b", "a"]


@pytest.mark.parametrize("kind", ["strings", "numbers", "array"])
def test_each_query_has_the_items_of_its_id_in_gallery_order(kind: str) -> None:
    def as_ids(ids: list[str]) -> Ids:
        numbers = [ord(each) for each in ids]
        return {"strings": ids, "numbers": numbers, "array": np.array(numbers)}[kind]  # type: ignore[return-value]

    found = Pairs.of(as_ids(QUERIES), as_ids(GALLERY), (4, 5), CPU)
    assert list(zip(found.queries.tolist(), found.items.tolist())) == [
        (query, item) for query, one in enumerate(QUERIES) for item, other in enumerate(GALLERY) if one == other
    ]
    assert found.first.tolist() == [0, 2, 2, 4, 6]
    assert found.has_pair.tolist() == [True, False, True, True]
    assert {each.dtype for each in (found.queries, found.items, found.first)} == {torch.int64}


def test_the_best_key_is_the_least_of_the_querys_items() -> None:
    pairs = Pairs.of(QUERIES, GALLERY, (4, 5), CPU)
    keys = torch.tensor([[5, 9, 1, 7, 3], [0, 1, 2, 3, 4], [8, 2, 6, 4, 9]])  # of queries 1, 2 and 3
    none = torch.iinfo(torch.int64).max
    assert pairs.best_keys(keys, slice(1, 4)).tolist() == [[none], [0], [2]]


def test_as_many_ids_as_queries_and_items_are_wanted() -> None:
    for shape in ((3, 5), (4, 6)):
        with pytest.raises(ValueError, match=f"{shape[0]} queries and {shape[1]} items have 4 and 5 ids"):
            Pairs.of(QUERIES, GALLERY, shape, CPU)


def test_the_mean_correlation_is_that_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(4, 6)), rng.normal(size=(5, 6))
    expected = [
        np.corrcoef(queries[query], gallery[item])[0, 1]
        for query, one in enumerate(QUERIES)
        for item, other in enumerate(GALLERY)
        if one == other
    ]
    found = mean_correlation(queries, gallery, Pairs.of(QUERIES, GALLERY, (4, 5), CPU))
    assert found == pytest.approx(np.mean(expected), abs=1e-6)


def test_items_of_one_class_are_labeled() -> None:
    rows = {"image": torch.eye(3), "text": torch.eye(3)}
    of_one = embedded_split(rows, torch.ones(3, 1, dtype=torch.int64))
    assert of_one.is_labeled and of_one.items("image").is_labeled
    assert not (of_one.without_labels().is_labeled or of_one.without_labels().items("text").is_labeled)
    assert embedded_split(rows, torch.zeros(3, dtype=torch.int64)).is_labeled
    assert not embedded_split(rows, torch.zeros(3, 0, dtype=torch.int64)).is_labeled
