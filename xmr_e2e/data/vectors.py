"""Word vectors: skip-gram word2vec fitted on the training split, or a pretrained file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.bounds import Count, Seed, Width
from xmr_e2e.data.text import PAD, SPECIALS
from xmr_e2e.data.vector_files import SHOWN, FileVectors, read_head, read_vectors
from xmr_e2e.errors import XmrError

if TYPE_CHECKING:  # gensim takes seconds to import, which loader processes and most commands need not spend
    from gensim.models import KeyedVectors

LEAST_FOUND, FEW_FOUND = 0.01, 0.5
"""fractions of the vocabulary that a file must have vectors of, and below which a person is warned"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WordVectors:
    """The initial vectors of the text tower's first layer. Vocabulary and vectors come from the training split only."""

    dim: Width = 100
    """width of the word vectors"""
    file: Path | None = None
    """pretrained vectors: word2vec's text or binary form (GoogleNews-vectors-negative300.bin.gz), fastText's .vec or
    GloVe's text, also packed as .gz, .bz2 or .xz; or an array FILE.npy (n, d) with its words beside it, FILE.txt with a
    word a line or a Parquet file with a column of them. Fitted here without one"""
    min_count: Count = 2
    """words seen less often than this in the training split are <unk>"""
    window: Count = 5
    """words of context on each side"""
    epochs: Count = 10
    """passes of skip-gram training over the training texts"""
    seed: Seed = 0


def fit_vectors(words: Sequence[str], texts: Sequence[Sequence[str]], options: WordVectors) -> NDArray[np.float32]:
    """The vectors of words, (len(SPECIALS) + len(words), dim); row 0, `<pad>`, is zero.

    texts: the training texts, word by word.

    Raises:
        XmrError: the pretrained file cannot be used.
    """
    known, scale = _from_file(words, options) if options.file else _skip_gram(words, texts, options)
    shape = (len(SPECIALS) + len(words), options.dim)
    table = np.random.default_rng(options.seed).normal(0, scale, shape).astype(np.float32)
    table[PAD] = 0
    found = [(row, word) for row, word in enumerate(words, start=len(SPECIALS)) if word in known]
    for row, word in found:
        table[row] = known[word]
    logger.info("word vectors: %d words, %d of them with a vector", len(words), len(found))
    return table


def load_vectors(words: Sequence[str], options: WordVectors, *, most: int | None = None) -> FileVectors:
    """The vectors of words in `options.file`.

    most: vectors of the file to look at, from its beginning; None looks at all.

    Raises:
        XmrError: the file cannot be used, or has hardly any of the words.
    """
    path = options.file
    assert path is not None
    dim = read_head(path).dim
    if dim != options.dim:
        raise XmrError(f"{path} holds {dim}-d vectors: set --data.words.dim {dim}")
    read = read_vectors(path, frozenset(words), most=most)
    if len(read.vectors) < max(1, LEAST_FOUND * len(words)):
        raise XmrError(
            f"{path} has vectors of {len(read.vectors):,} of the {len(words):,} words in the training texts. It begins "
            f"with {_listed(read.first_words)}, and the texts' most frequent words are {_listed(words)}: take a file "
            "of their language, or do without --data.words.file, and the vectors are fitted on the texts"
        )
    return read


def remarks(read: FileVectors, words: Sequence[str], path: Path) -> list[str]:
    """Remarks for a person on the word vectors that were read from a file."""
    found = []
    if len(read.vectors) < FEW_FOUND * len(words):
        found.append(
            f"{path} has vectors of {len(read.vectors):,} of the {len(words):,} words in the training texts "
            f"({len(read.vectors) / len(words):.0%}); the others begin as noise"
        )
    if read.announced is not None and read.rows > read.announced:
        found.append(f"{path}: the header announces {read.announced:,} vectors, and more follow; all are used")
    if read.unreadable:
        found.append(f"{path}: {read.unreadable:,} words are not UTF-8, and passed over")
    return found


def _from_file(words: Sequence[str], options: WordVectors) -> tuple[Mapping[str, NDArray[np.float32]], float]:
    read = load_vectors(words, options)
    assert options.file is not None
    for remark in remarks(read, words, options.file):
        logger.warning("%s", remark)
    # Words without a vector start as noise of the vectors' own scale, so that they neither vanish nor dominate.
    return read.vectors, float(np.std(np.stack(list(read.vectors.values()))))


def _listed(words: Sequence[str]) -> str:
    return ", ".join(repr(word) for word in words[:SHOWN])


def _skip_gram(
    words: Sequence[str], texts: Sequence[Sequence[str]], options: WordVectors
) -> tuple[KeyedVectors, float]:
    """gensim's skip-gram, and the scale of its vectors; one worker, since more would make the vectors differ from run
    to run."""
    from gensim.models import Word2Vec

    model = Word2Vec(
        sentences=texts,
        vector_size=options.dim,
        window=options.window,
        min_count=options.min_count,
        epochs=options.epochs,
        seed=options.seed,
        sg=1,
        workers=1,
    )
    return model.wv, float(np.std(model.wv.vectors[: 10 * len(words)]))
