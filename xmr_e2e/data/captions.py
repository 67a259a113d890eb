"""Texts that are items of their own, instead of one text for each sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from xmr_e2e.shards.schema import Metadata


class Texts(Protocol):
    """The source of the samples' texts; a `SplitReader`."""

    def metadata(self, position: int) -> Metadata: ...


@dataclass(frozen=True)
class Captions:
    """The choice of the texts of a split that are items."""

    most: int | None = None
    """of each sample its first ones, as many as this; None takes all"""
    distinct: bool = False
    """identical texts are one item, of the first sample that has it"""

    def of(self, reader: Texts, positions: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Position -> the sample's texts that are items; samples that have none are left out."""
        seen: set[str] = set()
        found = {}
        for position in positions:
            texts = reader.metadata(position).texts[: self.most]
            if self.distinct:
                texts = tuple(text for text in dict.fromkeys(texts) if text not in seen)
                seen.update(texts)
            if texts:
                found[position] = texts
        return found
