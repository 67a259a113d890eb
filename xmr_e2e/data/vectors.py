"""Word vectors: skip-gram word2vec fitted on the training split, or a pretrained file."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.bounds import Count, Seed, Width
from xmr_e2e.data.text import PAD, SPECIALS
from xmr_e2e.errors import XmrError

if TYPE_CHECKING:  # gensim takes seconds to import, which loader processes and most commands need not spend
    from gensim.models import KeyedVectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WordVectors:
    """Where the text tower's first layer starts from. Vocabulary and vectors come from the training split only."""

    dim: Width = 100
    """width of the word vectors"""
    file: Path | None = None
    """a pretrained word2vec file, text or binary (GoogleNews-vectors-negative300.bin.gz); fitted here without one"""
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
    known = _load_file(options.file, options.dim) if options.file else _skip_gram(texts, options)
    # Words without a vector start as noise of the vectors' own scale, so that they neither vanish nor dominate.
    scale = float(np.std(known.vectors[: 10 * len(words)]))
    shape = (len(SPECIALS) + len(words), options.dim)
    table = np.random.default_rng(options.seed).normal(0, scale, shape).astype(np.float32)
    table[PAD] = 0
    found = [(row, word) for row, word in enumerate(words, start=len(SPECIALS)) if word in known]
    for row, word in found:
        table[row] = known[word]
    logger.info("word vectors: %d words, %d of them with a vector", len(words), len(found))
    return table


def _skip_gram(texts: Sequence[Sequence[str]], options: WordVectors) -> KeyedVectors:
    """gensim's skip-gram; one worker, since more would make the vectors differ from run to run."""
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
    return model.wv


def _load_file(path: Path, dim: int) -> KeyedVectors:
    if not path.exists():
        raise XmrError(f"--data.words.file: {path} does not exist")
    from gensim.models import KeyedVectors

    try:
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=_is_binary(path))
    except (ValueError, EOFError, UnicodeDecodeError, OSError) as error:
        raise XmrError(f"{path}: not a word2vec file, neither text nor binary: {error}") from error
    if vectors.vector_size != dim:
        raise XmrError(f"{path} holds {vectors.vector_size}-d vectors: set --data.words.dim {vectors.vector_size}")
    return vectors


def _is_binary(path: Path) -> bool:
    """Whether the vectors after the first word are raw floats instead of decimal numbers."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        stream.readline()
        values = stream.read(400).split(b" ", 1)[-1]
    return any(byte not in b"0123456789+-.eE \r\n" for byte in values.split(b"\n")[0])
