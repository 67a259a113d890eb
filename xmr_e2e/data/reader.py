"""Samples by position, straight out of the tars."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.index import TEXT_MEMBERS, ShardIndex, load_index
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.shards.schema import Metadata, decode_metadata

OPEN_FILES = 64


@dataclass(frozen=True)
class Record:
    """One sample as stored."""

    key: str
    image: bytes
    metadata: Metadata
    labels: tuple[int, ...]
    """class ids"""
    where: str
    """shard and key, for error messages"""


class SplitReader:
    """Random access to one split of a folder of shards.

    Raises:
        XmrError: no such split, or (while reading) a shard that is missing, cut or does not fit its index.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split
        self.manifest: Manifest = load_manifest(folder)
        if split not in self.manifest.splits:
            raise XmrError(f"{folder} has no split {split!r}; it has {', '.join(self.manifest.splits)}")
        self.shards = self.manifest.splits[split].shards
        self._ends = np.cumsum([shard.samples for shard in self.shards])
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}  # open files do not travel to another process

    def __del__(self) -> None:
        for file in self.__dict__.get("_files", {}).values():
            os.close(file)

    def _file(self, shard: int) -> int:
        """The open file of a shard; at most OPEN_FILES are open at a time, the longest open is closed first."""
        if shard not in self._files:
            if len(self._files) >= OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[shard] = os.open(self.folder / self.shards[shard].name, os.O_RDONLY)
        return self._files[shard]

    def read(self, position: int) -> Record:
        """The sample at this position of the split, 0 <= position < len(self)."""
        shard, row = self._locate(position)
        index = self._index(shard)
        key = index.keys[row]
        where = f"{self.folder / self.shards[shard].name}: {key}"
        image = next(ext for ext in index.image_extensions if index.members[ext][row, 0] >= 0)
        return Record(
            key=key,
            image=self._member(shard, index.members[image][row], where),
            metadata=self._metadata(shard, index, row, where),
            labels=index.labels[row],
            where=where,
        )

    def metadata(self, position: int) -> Metadata:
        """Texts and labels of a sample, without reading its image."""
        shard, row = self._locate(position)
        index = self._index(shard)
        return self._metadata(shard, index, row, f"{self.folder / self.shards[shard].name}: {index.keys[row]}")

    def key(self, position: int) -> str:
        shard, row = self._locate(position)
        return self._index(shard).keys[row]

    def labels(self, position: int) -> tuple[int, ...]:
        shard, row = self._locate(position)
        return self._index(shard).labels[row]

    def _locate(self, position: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._ends, position, side="right"))
        return shard, position - (int(self._ends[shard - 1]) if shard else 0)

    def _index(self, shard: int) -> ShardIndex:
        return _cached_index(self.folder / self.shards[shard].name)

    def _metadata(self, shard: int, index: ShardIndex, row: int, where: str) -> Metadata:
        spans = {ext: index.members[ext][row] for ext in TEXT_MEMBERS if ext in index.members}
        present = {ext: self._member(shard, span, where) for ext, span in spans.items() if span[0] >= 0}
        return decode_metadata(present, where)

    def _member(self, shard: int, span: NDArray[np.int64], where: str) -> bytes:
        offset, size = span.tolist()
        try:
            data = os.pread(self._file(shard), size, offset)
        except OSError as error:
            raise XmrError(f"{where}: the shard cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise XmrError(f"{where}: the shard ends within this sample (byte {offset:,}); run `xmr shards verify`")
        return data


@cache
def _cached_index(shard: Path) -> ShardIndex:
    return load_index(shard)
