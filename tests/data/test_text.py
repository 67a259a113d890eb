"""Words of texts: which run of letters shows that a language is written without spaces."""

from __future__ import annotations

from collections import Counter

from xmr_e2e.data.text import _clause_of_unspaced


def test_the_clause_that_is_shown_is_longer_than_a_word() -> None:
    word, clause = "漢" * 4, "字" * 9
    assert _clause_of_unspaced(Counter({word: 3, clause: 2})) == clause
    assert _clause_of_unspaced(Counter({word: 3})) == ""
