"""Texts of a split that are items of their own."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from xmr_e2e.data.captions import Captions

TEXTS = {0: ("a", "b", "a"), 2: (), 3: ("b", "c"), 5: ("a", "b")}


def reader(texts: Mapping[int, tuple[str, ...]]) -> Any:
    return SimpleNamespace(metadata=lambda position: SimpleNamespace(texts=texts[position]))


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (Captions(), {0: ("a", "b", "a"), 3: ("b", "c"), 5: ("a", "b")}),
        (Captions(most=1), {0: ("a",), 3: ("b",), 5: ("a",)}),
        (Captions(distinct=True), {0: ("a", "b"), 3: ("c",)}),
        (Captions(most=1, distinct=True), {0: ("a",), 3: ("b",)}),
    ],
)
def test_the_items_of_each_sample(captions: Captions, expected: dict[int, tuple[str, ...]]) -> None:
    assert captions.of(reader(TEXTS), TEXTS) == expected


def test_the_first_sample_in_the_order_asked_for_has_a_text() -> None:
    assert Captions(distinct=True).of(reader(TEXTS), [5, 0, 3]) == {5: ("a", "b"), 3: ("c",)}
