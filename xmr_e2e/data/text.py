"""Texts to token ids."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex
import torch

from xmr_e2e.data.inputs import Tokens
from xmr_e2e.errors import XmrError

PAD, UNKNOWN = 0, 1
SPECIALS = ("<pad>", "<unk>")
# Letters, the marks that belong to them (as vowels in Hindi), and digits; an apostrophe within a word stays.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*")


# Letters of scripts without spaces between words: Chinese and Japanese; Thai, Lao, Khmer, Burmese and their like, which
# Unicode puts into one class of line breaking. Behind them, from which mean length of a run it is no word but a clause.
_UNSPACED = (
    (regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー]+"), 4),
    (regex.compile(r"\p{Line_Break=Complex_Context}+"), 10),
)


def tokenize(text: str) -> list[str]:
    """Lower-case words; punctuation is dropped. Scripts without spaces, such as Thai, are not segmented."""
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


@dataclass(frozen=True)
class Vocabulary:
    """The tokeniser of words: the known ones; a word's id is its place, after `<pad>` and `<unk>`."""

    words: tuple[str, ...]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=len(SPECIALS))}

    def __len__(self) -> int:
        return len(self.words) + len(SPECIALS)

    def encode(self, text: str, *, max_tokens: int) -> list[int]:
        """Ids of the first `max_tokens` words; a text without any word is one `<unk>`, so that no length is 0."""
        return [self._ids.get(word, UNKNOWN) for word in tokenize(text)[:max_tokens]] or [UNKNOWN]

    def pieces(self, text: str) -> list[str]:
        """The words, known or not."""
        return tokenize(text)

    def lookup(self, text: str) -> list[tuple[str, bool]]:
        """The words, and whether each is known."""
        return [(word, word in self._ids) for word in tokenize(text)]

    def to_document(self) -> dict[str, Any]:
        """As JSON values, for `tokenisers.tokenizer_from_document`."""
        return {"kind": "words", "words": list(self.words)}


def fit_vocabulary(texts: Sequence[str], *, min_count: int) -> Vocabulary:
    """The words that occur at least `min_count` times, the most frequent first, ties in alphabetical order.

    Raises:
        XmrError: texts that have no words, or none that occurs so often.
    """
    counts = Counter(word for text in texts for word in tokenize(text))
    if not counts:
        first = next(iter(texts), "")[:40]
        raise XmrError(
            f"none of the {len(texts):,} training texts has a word of letters or digits (the first: {first!r}); "
            "--data.tokens.kind sentencepiece takes other signs, too"
        )
    if clause := _clause_of_unspaced(counts):
        raise XmrError(
            f"the training texts are of a script without spaces between words: {clause[:40]!r} would be one word. Set "
            "--data.tokens.kind sentencepiece, which cuts them into subwords; or put spaces between the words"
        )
    vocabulary = _most_frequent(counts, min_count)
    if not vocabulary.words:
        raise XmrError(
            f"no word occurs {min_count} times in the {len(texts):,} training texts; lower --data.words.min-count, or "
            "cut words into subwords: --data.tokens.kind sentencepiece"
        )
    return vocabulary


def _most_frequent(counts: Counter[str], min_count: int) -> Vocabulary:
    kept = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
    return Vocabulary(tuple(kept))


def _clause_of_unspaced(counts: Counter[str]) -> str:
    """The most frequent run of letters that is a clause, of texts of which half or more are written without spaces;
    empty for others, also for those whose words somebody has parted."""
    letters = sum(len(word) * count for word, count in counts.items())
    for script, longest_word in _UNSPACED:
        runs: Counter[str] = Counter()
        for word, count in counts.items():
            for run in script.findall(word):
                runs[run] += count
        inside = sum(len(run) * count for run, count in runs.items())
        if 2 * inside >= letters and inside > longest_word * runs.total():
            return next(run for run, _ in runs.most_common() if len(run) > longest_word)
    return ""


def pad(rows: Sequence[Sequence[int]]) -> Tokens:
    """Token id rows of n texts to `Tokens`, padded to the longest."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), PAD)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return Tokens(ids, lengths)
