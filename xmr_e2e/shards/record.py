"""One sample as stored, found in its tar by the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xmr_e2e.shards.index import TEXT_MEMBERS, ShardIndex, Span
from xmr_e2e.shards.schema import Metadata, decode_metadata

ReadSpan = Callable[[Span], bytes]
"""The bytes at a place in the tar."""


@dataclass(frozen=True)
class Record:
    """One sample as stored. What else it holds is read by modality: `SplitReader.features`, `SplitReader.regions`."""

    key: str
    image: bytes | None
    """None where the sample has no raw image"""
    metadata: Metadata
    labels: tuple[int, ...]
    """class ids"""
    where: str
    """shard and key, for error messages"""


def read_record(index: ShardIndex, row: int, read: ReadSpan, where: str) -> Record:
    """The sample in this row of a shard.

    Raises:
        XmrError: its metadata cannot be read.
    """
    return Record(
        key=index.key(row),
        image=read_image(index, row, read),
        metadata=read_metadata(index, row, read, where),
        labels=index.labels_of(row),
        where=where,
    )


def read_image(index: ShardIndex, row: int, read: ReadSpan) -> bytes | None:
    """The raw image of the sample in this row; None where it has none."""
    span = next((span for ext in index.image_extensions if (span := index.span(ext, row))), None)
    return read(span) if span else None


def read_metadata(index: ShardIndex, row: int, read: ReadSpan, where: str) -> Metadata:
    """Texts, class names and source of the sample in this row. Raises XmrError as `read_record` does."""
    spans = {ext: span for ext in TEXT_MEMBERS if (span := index.span(ext, row))}
    return decode_metadata({ext: read(span) for ext, span in spans.items()}, where)
