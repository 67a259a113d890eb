"""Word vectors as an array with a list of words beside it: what is read, and errors that name both files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.drawn import COLORS
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_idf, fit_words
from xmr_e2e.data.vector_files import read_head, read_vectors
from xmr_e2e.data.vectors import WordVectors, fit_vectors
from xmr_e2e.errors import XmrError

WORDS = ["the", "dog", "New York", "Paris", "naïve", "the"]
ARRAY = np.arange(18, dtype=np.float32).reshape(6, 3) / 7


def write_table(path: Path, **columns: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)


@pytest.mark.parametrize("form", ["txt", "windows", "parquet", "only_parquet", "fortran", "half", "double"])
def test_an_array_and_the_words_beside_it_are_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "glove.npy"
    kinds = {"fortran": np.asfortranarray(ARRAY), "half": ARRAY.astype(np.float16), "double": ARRAY.astype(np.float64)}
    array = kinds.get(form, ARRAY)
    np.save(path, array)
    if form == "parquet":
        write_table(tmp_path / "glove.parquet", rank=list(range(6)), word=WORDS)
        write_table(tmp_path / "other.parquet", word=WORDS[::-1])
    elif form == "only_parquet":
        write_table(tmp_path / "glove_index.parquet", index=WORDS)
    else:
        (tmp_path / "glove.txt").write_bytes(("\r\n" if form == "windows" else "\n").join([*WORDS, ""]).encode())
    assert read_head(path)[:2] == (6, 3)
    found = read_vectors(path, frozenset(["dog", "paris", "the", "new york", "cat"]))
    assert found.rows == 6 and found.first_words == ("the", "dog", "New York")
    assert {word: vector.tolist() for word, vector in found.vectors.items()} == {
        word: array[row].astype(np.float32).tolist()
        for word, row in (("the", 0), ("dog", 1), ("new york", 2), ("paris", 3))
    }
    assert all(vector.dtype == np.float32 for vector in found.vectors.values())


def test_rows_that_nobody_asks_for_are_not_looked_at(tmp_path: Path) -> None:
    array = ARRAY.copy()
    array[2] = np.nan
    np.save(tmp_path / "v.npy", array)
    (tmp_path / "v.txt").write_text("\n".join(WORDS))
    table = fit_vectors(["dog"], [["dog"]], WordVectors(dim=3, file=tmp_path / "v.npy"))
    assert table[2].tolist() == ARRAY[1].tolist()
    with pytest.raises(XmrError, match=r"v\.npy, row 2, 'New York': the vector holds NaN"):
        read_vectors(tmp_path / "v.npy", frozenset(["new york"]))


def test_an_array_of_another_width_says_which_option_to_set(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", ARRAY)
    (tmp_path / "v.txt").write_text("\n".join(WORDS))
    with pytest.raises(XmrError, match=r"v\.npy holds 3-d vectors: set --data.words.dim 3"):
        fit_vectors(["dog"], [["dog"]], WordVectors(dim=50, file=tmp_path / "v.npy"))


def five_words(folder: Path) -> None:
    (folder / "v.txt").write_text("\n".join(WORDS[:5]))


def no_words(folder: Path) -> None:
    pass


def several_tables(folder: Path) -> None:
    write_table(folder / "a.parquet", word=WORDS)
    write_table(folder / "b.parquet", word=WORDS)


def no_column(folder: Path) -> None:
    write_table(folder / "v.parquet", number=list(range(6)))


def two_columns(folder: Path) -> None:
    write_table(folder / "v.parquet", one=WORDS, other=WORDS)


def no_table(folder: Path) -> None:
    (folder / "v.parquet").write_bytes(b"PAR1 and no more")


def latin(folder: Path) -> None:
    (folder / "v.txt").write_bytes("\n".join(WORDS).encode("latin1"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (five_words, r"v\.npy holds 6 vectors, and .*v\.txt 5 words: they do not belong together"),
        (no_words, r"words of its rows are missing: put them beside it, as v\.txt .* or v\.parquet"),
        (several_tables, r"words of its rows are missing.*the folder holds several: a\.parquet, b\.parquet"),
        (no_column, r"v\.parquet has no column of words: of its columns 'number'"),
        (two_columns, r"v\.parquet has no column of words: of its columns 'one, other'"),
        (no_table, r"v\.parquet cannot be read as Parquet"),
        (latin, r"v\.txt is no list of words: it is not UTF-8"),
    ],
)
def test_words_that_do_not_fit_are_refused_by_name(tmp_path: Path, write: Any, message: str) -> None:
    np.save(tmp_path / "v.npy", ARRAY)
    write(tmp_path)
    with pytest.raises(XmrError, match=message) as error:
        read_vectors(tmp_path / "v.npy", frozenset(WORDS))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY[0], r"holds float32 of \(3,\)"),
        (ARRAY.astype(np.int64), "holds int64"),
        (ARRAY[:0], "holds no vectors"),
        (np.array([["a"], [None]], dtype=object), "cannot be read as an array"),
    ],
)
def test_arrays_that_are_no_word_vectors_are_refused(tmp_path: Path, array: Any, message: str) -> None:
    np.save(tmp_path / "v.npy", array)
    (tmp_path / "v.txt").write_text("a\nb")
    with pytest.raises(XmrError, match=message):
        read_head(tmp_path / "v.npy")


@given(place=st.integers(0, 127), byte=st.integers(0, 255), length=st.integers(6, 200))
def test_a_damaged_array_gives_an_error_in_our_words_or_numbers(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, length: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    np.save(folder / "v.npy", ARRAY)
    content = bytearray((folder / "v.npy").read_bytes()[:length])
    if place < len(content):
        content[place] = byte
    (folder / "v.npy").write_bytes(content)
    (folder / "v.txt").write_text("\n".join(WORDS))
    try:
        found = read_vectors(folder / "v.npy", frozenset(WORDS))
    except XmrError:
        return
    assert all(np.isfinite(vector).all() for vector in found.vectors.values())


def test_idf_counts_the_samples_or_texts_that_have_a_word(tiny_shards: Path) -> None:
    """By loops over the texts of the miniature: 40 samples, whose third text only half of them have."""
    data = Data(tiny_shards, words=WordVectors(dim=4, min_count=1))
    tokenizer, _ = fit_words(data)
    color = next(iter(COLORS))
    place = {word: tokenizer.encode(word, max_tokens=1)[0] for word in ("picture", "again", color)}
    joined = fit_idf(data, tokenizer)
    again = sum(2 + number % 2 > 2 for number in range(40))
    for word, count in (("picture", 40), ("again", again), (color, 10)):
        assert joined[place[word]] == pytest.approx(np.log(41 / (1 + count)) + 1)
    single = fit_idf(Data(tiny_shards, texts="one_caption", words=data.words), tokenizer)
    assert single[place["picture"]] == pytest.approx(np.log((1 + 80 + again) / 41) + 1)
