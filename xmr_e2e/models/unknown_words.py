"""Words of a text that a model does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

WORDS_SHOWN = 10
"""that are named to a person"""


@dataclass(frozen=True)
class UnknownWords:
    """The words of a text that a model does not know."""

    words: tuple[str, ...]
    """each once, in order"""
    is_all: bool
    """no word of the text is known: its embedding says nothing"""

    @classmethod
    def of(cls, found: Sequence[tuple[str, bool]]) -> Self:
        """The unknown ones of a text's words, of each of which it is said whether it is known."""
        unknown = dict.fromkeys(word for word, known in found if not known)
        return cls(tuple(unknown), is_all=not any(known for _, known in found))

    def __str__(self) -> str:
        """For a person; empty where all is known."""
        if self.is_all:
            return "no word of the query is known to the model: what is found does not depend on it"
        more = f" and {len(self.words) - WORDS_SHOWN} more" if len(self.words) > WORDS_SHOWN else ""
        return (
            f"unknown to the model, and passed over: {', '.join(self.words[:WORDS_SHOWN])}{more}" if self.words else ""
        )
