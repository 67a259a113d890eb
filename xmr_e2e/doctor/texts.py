"""Findings on texts that the tokeniser does not know, and words that a file of vectors lacks."""

from __future__ import annotations

from collections.abc import Iterator

from xmr_e2e.data.text import Vocabulary
from xmr_e2e.data.unknown import describe_unknown, unknown_fractions, warn_of_unknown
from xmr_e2e.data.vectors import WordVectors, load_vectors, remarks
from xmr_e2e.doctor.finding import Finding, note, problem
from xmr_e2e.doctor.method import Words
from xmr_e2e.doctor.shards import check_word_file
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Experiment

VECTORS = 300_000
"""of a file that are looked at; those of frequent words come first, and a look may take seconds"""


def check_texts(experiment: Experiment, words: Words) -> Iterator[Finding]:
    """The unknown words of each split, and how many words have a vector in `--data.words.file`.

    Raises:
        XmrError: texts that cannot be read.
    """
    if words.tokenizer is None:
        return
    fractions = unknown_fractions(experiment.data.shards, words.tokenizer)
    warning = warn_of_unknown(fractions)
    yield note("texts", warning) if warning else Finding("texts", describe_unknown(fractions))
    if isinstance(words.tokenizer, Vocabulary):
        yield from _check_vectors(words.tokenizer, experiment.data.words)


def _check_vectors(vocabulary: Vocabulary, options: WordVectors) -> Iterator[Finding]:
    if options.file is None or any(finding.level == "problem" for finding in check_word_file(options)):
        return  # which was said before
    try:
        read = load_vectors(vocabulary.words, options, most=VECTORS)
    except XmrError as error:
        yield problem("words", str(error))
        return
    found = remarks(read, vocabulary.words, options.file)
    yield from (note("words", remark) for remark in found)
    if not found:
        looked = f" among the first {VECTORS:,}" if read.rows == VECTORS else ""
        counts = f"{len(read.vectors):,} of the {len(vocabulary.words):,} words have a vector{looked}"
        yield Finding("words", f"{options.file}: {counts}")
