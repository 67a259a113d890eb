"""Vectors that are made ready to be searched, part by part."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from xmr_e2e.search.vectors import AT_ONCE, _prepared
from xmr_e2e.similarity import Similarity


@pytest.mark.parametrize("similarity", ["cosine", "pearson"])
def test_rows_of_length_1_are_those_of_all_at_once_and_take_little_memory(similarity: Similarity) -> None:
    rows = np.random.default_rng(0).normal(3, 1, (3 * AT_ONCE + 7, 16)).astype(np.float32)
    rows[5] = 0
    tracemalloc.start()
    found = _prepared(rows, similarity)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    exact = rows.astype(np.float64)
    if similarity == "pearson":
        exact -= exact.mean(1, keepdims=True)
    expected = (exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert peak < rows.nbytes + 5 * rows.nbytes * AT_ONCE / len(rows)
