"""Word vectors from a file: the vectors that it has, and noise of their scale for the other words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xmr_e2e.data.vector_files import read_vectors
from xmr_e2e.data.vectors import WordVectors, fit_vectors, load_vectors
from xmr_e2e.errors import XmrError

WORDS = [f"w{number}" for number in range(4000)]
KNOWN = np.random.default_rng(0).normal(3.0, 0.5, (400, 8)).astype(np.float32)


@pytest.fixture
def options(tmp_path: Path) -> WordVectors:
    """Of a file with vectors of the first 400 words, in GloVe's form."""
    lines = [f"{word} {' '.join(str(number) for number in row)}\n" for word, row in zip(WORDS, KNOWN)]
    (tmp_path / "glove.txt").write_text("".join(lines))
    return WordVectors(dim=8, file=tmp_path / "glove.txt")


def test_words_without_a_vector_are_noise_of_the_vectors_scale_around_zero(options: WordVectors) -> None:
    table = fit_vectors(WORDS, [], options)
    assert table.shape == (4002, 8) and table.dtype == np.float32
    assert not table[0].any()
    np.testing.assert_allclose(table[2:402], KNOWN, rtol=1e-6)
    noise = table[402:]
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(KNOWN.std(), rel=0.05)
    assert 0 < abs(table[1]).max() < 5 * KNOWN.std()  # <unk>


def test_only_the_first_vectors_are_looked_at_where_so_many_are_asked_for(options: WordVectors) -> None:
    assert len(load_vectors(WORDS, options).vectors) == 400
    few = load_vectors(WORDS, options, most=50)
    assert (len(few.vectors), few.rows) == (50, 50)


@pytest.mark.parametrize(("digits", "message"), [(15, "cut short"), (16, "at most")])
def test_a_header_has_numbers_of_fifteen_digits_at_most(digits: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "v").write_text(f"1{'0' * (digits - 1)} 2\nsea 1 2\nsand 3 4\n")
    with pytest.raises(XmrError, match=message):
        read_vectors(tmp_path / "v", frozenset({"sea"}))
