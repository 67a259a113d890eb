"""Texts to token ids."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex
import torch

from xmr_e2e.data.batch import Tokens

PAD, UNKNOWN = 0, 1
SPECIALS = ("<pad>", "<unk>")
# Letters, the marks that belong to them (as vowels in Hindi), and digits; an apostrophe within a word stays.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*")


def tokenise(text: str) -> list[str]:
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
        return [self._ids.get(word, UNKNOWN) for word in tokenise(text)[:max_tokens]] or [UNKNOWN]

    def pieces(self, text: str) -> list[str]:
        """The words, known or not."""
        return tokenise(text)

    def to_document(self) -> dict[str, Any]:
        """As JSON values, for `tokenisers.tokeniser_from_document`."""
        return {"kind": "words", "words": list(self.words)}


def build_vocabulary(texts: Iterable[str], *, min_count: int) -> Vocabulary:
    """The words that occur at least `min_count` times, the most frequent first, ties in alphabetical order."""
    counts = Counter(word for text in texts for word in tokenise(text))
    kept = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
    return Vocabulary(tuple(kept))


def pad(rows: Sequence[Sequence[int]]) -> Tokens:
    """Token id rows of n texts to `Tokens`, padded to the longest."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), PAD)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return Tokens(ids, lengths)
