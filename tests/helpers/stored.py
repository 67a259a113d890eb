"""All that a folder of shards holds, read with this project's index and records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmr_e2e.shards.index import Span, load_index
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.shards.record import read_record


@dataclass(frozen=True, order=True)
class Stored:
    """The contents of a sample."""

    image: bytes | None
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    """class names, by the ids of the index"""


def stored(folder: Path) -> dict[tuple[str, str], Stored]:
    """(split, key) -> sample."""
    manifest = load_manifest(folder)
    found = {}
    for split, about in manifest.splits.items():
        for shard in about.shards:
            content = (folder / shard.name).read_bytes()

            def read(span: Span, content: bytes = content) -> bytes:
                return content[span[0] : span[0] + span[1]]

            index = load_index(folder / shard.name)
            for row in range(len(index)):
                record = read_record(index, row, read, shard.name)
                labels = tuple(manifest.classes[label] for label in record.labels)
                found[split, record.key] = Stored(record.image, record.metadata.texts, labels)
    return found
