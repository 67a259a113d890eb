"""Samples by position, straight out of the tars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.features import StoredRegions, UnusableFeatures, decode_features, decode_regions
from xmr_e2e.shards.index import ShardIndex, Span, load_index
from xmr_e2e.shards.manifest import REGIONS, Manifest, Shard, load_manifest
from xmr_e2e.shards.record import Record, read_image, read_metadata, read_record
from xmr_e2e.shards.remote.mount import load_mount, open_tar
from xmr_e2e.shards.schema import FEATURE_MEMBERS, MEDIA_EXTENSIONS, MODALITIES, REGIONS_MEMBER, Metadata

OPEN_FILES = 64
OPEN_INDEXES = 512
"""Of all readers of the process. An epoch's plan visits some 200 shards at a time; all of a million samples' or more
would fill the memory of every loader process."""


class SplitReader:
    """Random access to one split of a folder of shards, which may be mounted.

    Raises:
        XmrError: no such split, or (while reading) a shard that is missing, cut or does not fit its index,
            or cannot be fetched.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split
        self.manifest: Manifest = load_manifest(folder)
        self.mount = load_mount(folder)
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
            self._close_evicted()
            if len(self._files) >= OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[shard] = open_tar(self.folder, self.shards[shard], self.mount)
        elif self.mount:
            self.mount.touch(self.shards[shard])
        return self._files[shard]

    def _close_evicted(self) -> None:
        """The tars that the cache has let go: as long as they are open, they take room on the disk."""
        if self.mount:
            for shard in [shard for shard, file in self._files.items() if os.fstat(file).st_nlink == 0]:
                os.close(self._files.pop(shard))

    def read(self, position: int) -> Record:
        """The sample at this position of the split, 0 <= position < len(self)."""
        shard, row = self._locate(position)
        return read_record(self._index(shard), row, lambda span: self._read(shard, row, span), self._where(shard, row))

    def image(self, position: int) -> bytes:
        """The raw image of a sample, and nothing else of it.

        Raises:
            XmrError: it has none.
        """
        shard, row = self._locate(position)
        image = read_image(self._index(shard), row, lambda span: self._read(shard, row, span))
        if image is None:
            raise XmrError(
                f"{self._where(shard, row)}: has no image, only published features; read them with a vector tower"
            )
        return image

    def media(self, position: int, modality: str) -> tuple[bytes, str]:
        """The raw file of a sample's sound, video or 3D shape, and its extension.

        Raises:
            XmrError: it has none.
        """
        shard, row = self._locate(position)
        for extension in MEDIA_EXTENSIONS[modality]:
            span = self._index(shard).span(extension, row)
            if span is not None:
                return self._read(shard, row, span), extension
        raise XmrError(
            f"{self._where(shard, row)}: has no {modality} file, only published features; read them with a vector tower"
        )

    def has_media(self, position: int, modality: str) -> bool:
        """True if the sample has the raw file of a sound, a video or a 3D shape, and not only features of it."""
        shard, row = self._locate(position)
        return any(self._index(shard).span(extension, row) for extension in MEDIA_EXTENSIONS[modality])

    def where(self, position: int) -> str:
        """Shard and key of a sample, for error messages."""
        return self._where(*self._locate(position))

    def metadata(self, position: int) -> Metadata:
        """Texts and labels of a sample, without reading its image."""
        shard, row = self._locate(position)
        return read_metadata(
            self._index(shard), row, lambda span: self._read(shard, row, span), self._where(shard, row)
        )

    def features(self, position: int, modality: str) -> NDArray[np.float32]:
        """The published features of one modality, (d,) with d = manifest.widths[modality].

        Raises:
            XmrError: the sample has none, or they cannot be read.
        """
        shard, row = self._locate(position)
        try:
            features = decode_features(
                self._member(shard, row, FEATURE_MEMBERS[modality], f"published {modality} features")
            )
        except UnusableFeatures as error:
            raise XmrError(f"{self._where(shard, row)}: {modality} features: {error}") from error
        self._check_shape(features.shape, modality, shard, row)
        return features

    def regions(self, position: int) -> StoredRegions:
        """The regions that a detector found in the sample's image.

        Raises:
            XmrError: the sample has no regions, or they cannot be read.
        """
        shard, row = self._locate(position)
        try:
            regions = decode_regions(self._member(shard, row, REGIONS_MEMBER, "regions"))
        except UnusableFeatures as error:
            raise XmrError(f"{self._where(shard, row)}: regions: {error}") from error
        self._check_shape(regions.features.shape, REGIONS, shard, row)
        return regions

    def _check_shape(self, shape: tuple[int, ...], name: str, shard: int, row: int) -> None:
        expected = self.manifest.shapes.get(name)
        if shape != expected:
            raise XmrError(
                f"{self._where(shard, row)}: {name} features of shape {shape}; the manifest says {expected}; run "
                "`xmr shards verify`"
            )

    def has_all(self, modalities: Sequence[str]) -> bool:
        """True if each sample has all of these modalities, raw or as features; no index is read for it."""
        counts = self.manifest.splits[self.split].modalities
        return all(counts.get(name, 0) == len(self) for name in modalities)

    def positions_with(self, modalities: Sequence[str]) -> NDArray[np.int64]:
        """The ascending positions of the samples that have all of these modalities, raw or as features."""
        if self.has_all(modalities):
            return np.arange(len(self))
        has = [
            np.logical_and.reduce([self._index(shard).has(name) for name in modalities])
            for shard in range(len(self.shards))
        ]
        return np.flatnonzero(np.concatenate(has))

    def modalities(self, position: int) -> tuple[str, ...]:
        """The modalities of a sample, raw or as features."""
        shard, row = self._locate(position)
        return tuple(name for name in MODALITIES if self._index(shard).has(name)[row])

    def key(self, position: int) -> str:
        shard, row = self._locate(position)
        return self._index(shard).key(row)

    def labels(self, position: int) -> tuple[int, ...]:
        shard, row = self._locate(position)
        return self._index(shard).labels_of(row)

    def _locate(self, position: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._ends, position, side="right"))
        return shard, position - (int(self._ends[shard - 1]) if shard else 0)

    def _index(self, shard: int) -> ShardIndex:
        return _cached_index(self.folder, self.shards[shard], len(self.manifest.classes))

    def _where(self, shard: int, row: int) -> str:
        return f"{self.folder}/{self.shards[shard].name}: {self._index(shard).key(row)}"

    def _member(self, shard: int, row: int, extension: str, what: str) -> bytes:
        span = self._index(shard).span(extension, row)
        if span is None:
            raise XmrError(f"{self._where(shard, row)}: this sample has no {what}")
        return self._read(shard, row, span)

    def _read(self, shard: int, row: int, span: Span) -> bytes:
        offset, size = span
        try:
            data = os.pread(self._file(shard), size, offset)
        except OSError as error:
            raise XmrError(f"{self._where(shard, row)}: the shard cannot be read: {error.strerror}") from error
        if len(data) != size:
            raise XmrError(
                f"{self._where(shard, row)}: the shard ends within this sample (byte {offset:,}); run "
                "`xmr shards verify`"
            )
        return data


@lru_cache(OPEN_INDEXES)
def _cached_index(folder: Path, shard: Shard, classes: int) -> ShardIndex:
    """The index beside a shard, whose checksum tells apart what lay at this path at different times."""
    return load_index(folder / shard.name, shard, classes)
