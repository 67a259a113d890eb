"""The index beside each tar: where every member of every sample lies, so that samples are read by position.

It is a safetensors file `<shard>.index.safetensors` (arrays only, nothing executable) with n samples:
`keys` (all keys' bytes), `key_ends` (n,), `labels` (all class ids), `label_ends` (n,), `texts` (n,) how many there are,
and for every member extension `offset.<ext>` and `size.<ext>` (n,) in bytes, -1 where a sample has no such member.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes, shortened
from xmr_e2e.shards.manifest import MOST_SAMPLES, Shard, shard_file
from xmr_e2e.shards.schema import IMAGE_EXTENSIONS, MEMBERS, MODALITIES

TEXT_MEMBERS = ("json", "txt", "cls")
TEXT_BYTES = 16 * 2**20
"""of such a member, at most: it is parsed as a whole"""
LONGEST_KEY = 1024
"""bytes"""
MOST_EXTENSIONS = 256
"""that differ, in one shard: each takes 16 bytes of every sample in the index"""
MOST_LABELS = 4096
"""of one sample, as far as the size of an index is concerned"""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""what no key holds: keys stand in lists, a line each"""

_KINDS: dict[str, tuple[type[np.generic], str | None]] = {
    "keys": (np.uint8, None),
    "key_ends": (np.int64, "n"),
    "labels": (np.int32, None),
    "label_ends": (np.int64, "n"),
    "texts": (np.int32, "n"),
    "offset": (np.int64, "n"),
    "size": (np.int64, "n"),
}
"""array of an index, up to the dot in its name -> its type, and whether it has one value for each of the n samples"""

Span = tuple[int, int]
"""Where a member's bytes lie in the tar: offset and size."""


@dataclass(frozen=True)
class Rows:
    """A sequence of values for each of n rows, in two arrays: as Python objects, an index would take four times the
    memory."""

    values: NDArray[Any]
    """of all rows, one after the other"""
    ends: NDArray[np.int64]
    """(n,): where each row's values end"""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], kind: type[np.generic]) -> Rows:
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return cls(np.array([value for row in rows for value in row], kind), ends)

    def __post_init__(self) -> None:
        starts = np.concatenate([np.zeros(1, np.int64), self.ends])
        if (starts[1:] < starts[:-1]).any() or starts[-1] != len(self.values):
            raise ValueError("rows that do not lie one after the other")

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.ends[row - 1] if row else 0 : self.ends[row]]


@dataclass(frozen=True)
class ShardIndex:
    """The members of one shard. All arrays are indexed by the sample's row in the shard."""

    key_bytes: Rows = field(repr=False)
    """uint8: the keys in UTF-8"""
    label_ids: Rows = field(repr=False)
    """int32"""
    texts: NDArray[np.int32]
    """(n,): how many texts the sample's metadata hold"""
    members: dict[str, NDArray[np.int64]] = field(repr=False)
    """extension -> (n, 2): offset and size in bytes; -1 where the sample has no such member"""

    def __len__(self) -> int:
        return len(self.texts)

    def key(self, row: int) -> str:
        return self.key_bytes[row].tobytes().decode()

    def labels_of(self, row: int) -> tuple[int, ...]:
        """Class ids."""
        return tuple(self.label_ids[row].tolist())

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all rows."""
        return tuple(map(self.key, range(len(self))))

    @property
    def labels(self) -> tuple[tuple[int, ...], ...]:
        """Class ids of all rows."""
        return tuple(map(self.labels_of, range(len(self))))

    @property
    def has_labels(self) -> NDArray[np.bool_]:
        """(n,): which samples have at least one."""
        return np.diff(self.label_ids.ends, prepend=0) > 0

    @cached_property
    def image_extensions(self) -> list[str]:
        return [extension for extension in IMAGE_EXTENSIONS if extension in self.members]

    def span(self, extension: str, row: int) -> Span | None:
        """The location in the tar of the row's member with this extension, None if it has none."""
        if extension not in self.members or self.members[extension][row, 0] < 0:
            return None
        offset, size = self.members[extension][row].tolist()
        return offset, size

    def has(self, modality: str) -> NDArray[np.bool_]:
        """(n,): which samples have it, raw or as features."""
        found = self.texts > 0 if modality == "text" else np.zeros(len(self), bool)
        for extension in MEMBERS[modality]:
            if extension in self.members:
                found = found | (self.members[extension][:, 0] >= 0)
        return found

    def several_images(self) -> NDArray[np.bool_]:
        """(n,): which samples hold more than one image; that of the first of IMAGE_EXTENSIONS is taken."""
        held = [self.members[extension][:, 0] >= 0 for extension in self.image_extensions]
        return np.sum(held, axis=0) > 1 if held else np.zeros(len(self), bool)

    def count_modalities(self) -> dict[str, int]:
        """The number of samples with each modality; modalities that none has are left out."""
        counts = {name: int(self.has(name).sum()) for name in MODALITIES}
        return {name: count for name, count in counts.items() if count}

    def encode(self) -> bytes:
        """The index file's bytes; equal indexes give equal bytes."""
        arrays: dict[str, NDArray[Any]] = {
            "keys": self.key_bytes.values,
            "key_ends": self.key_bytes.ends,
            "labels": self.label_ids.values,
            "label_ends": self.label_ids.ends,
            "texts": np.ascontiguousarray(self.texts, np.int32),
        }
        for extension, spans in self.members.items():
            arrays[f"offset.{extension}"] = np.ascontiguousarray(spans[:, 0])
            arrays[f"size.{extension}"] = np.ascontiguousarray(spans[:, 1])
        return save(arrays, metadata={"format": "xmr-index 2"})


def index_path(shard: Path) -> Path:
    return shard.with_suffix(".index.safetensors")


def most_index_bytes(samples: int) -> int:
    """The largest size of an index of so many samples; a larger one is not read."""
    return 2**20 + samples * (LONGEST_KEY + 20 + 4 * MOST_LABELS + 16 * MOST_EXTENSIONS)


def load_index(tar: Path, shard: Shard | None = None, classes: int | None = None) -> ShardIndex:
    """Read the index beside a tar.

    Args:
        shard: what the manifest says of the tar, and
        classes: how many there are: by these the index is checked, so that what it says can be relied on. Without them,
            only its own parts are held against each other.

    Raises:
        XmrError: it is missing, damaged, of an older version, or does not fit what the manifest says.
    """
    path = shard_file(tar.parent, index_path(tar).name)
    most = most_index_bytes(MOST_SAMPLES if shard is None else shard.samples)
    try:
        index = _parse_index(load(read_bytes(path, most=most)))
    # the last two: numbers of types that numpy lacks, and of a shape that overflows
    except (OSError, KeyError, ValueError, SafetensorError, AttributeError, OverflowError) as error:
        raise XmrError(f"{path}: the index is missing or damaged ({error}); rebuild the shards") from error
    if shard is not None and len(index) != shard.samples:
        raise XmrError(
            f"{path}: the index has {len(index):,} samples; the manifest says {shard.samples:,}; rebuild the shards"
        )
    for key, what in _misplaced(index, shard.bytes if shard else None, classes):
        raise XmrError(f"{path}: {shortened(key, quoted=False)}: {what}; rebuild the shards")
    return index


def _parse_index(arrays: dict[str, NDArray[Any]]) -> ShardIndex:
    """The index that these arrays hold. Raises ValueError or KeyError where they are not as `ShardIndex.encode` makes
    them."""
    count = len(arrays["texts"]) if arrays["texts"].ndim else 0
    for name, array in arrays.items():
        kind, size = _KINDS.get(name.partition(".")[0], (None, None))
        if array.dtype != kind or array.shape != (len(array) if size is None and array.ndim else count,):
            raise ValueError(f"{shortened(name)} holds {array.dtype} of shape {array.shape}")
    keys, labels = (Rows(arrays[name], arrays[f"{name[:-1]}_ends"]) for name in ("keys", "labels"))
    text = keys.values.tobytes().decode()
    starts = keys.ends[:-1]
    if (np.diff(keys.ends, prepend=0) == 0).any() or (keys.values[starts] & 0xC0 == 0x80).any():
        raise ValueError("keys that are empty or no UTF-8")
    octets = keys.values
    # numpy's comparison first: the pattern takes as long as all the rest
    if ((octets < 0x20) | (octets >= 0x7F)).any() and (control := CONTROL.search(text)):
        raise ValueError(f"a key with the character {control[0]!a}")
    if (arrays["texts"] < 0).any():
        raise ValueError("numbers of texts below 0")
    places, sizes = (
        {name.partition(".")[2] for name in arrays if name.startswith(part)} for part in ("offset.", "size.")
    )
    if places != sizes or len(places) > MOST_EXTENSIONS:
        raise ValueError(f"{len(places)} kinds of members with an offset, {len(sizes)} with a size")
    members = {ext: np.stack([arrays[f"offset.{ext}"], arrays[f"size.{ext}"]], axis=1) for ext in sorted(places)}
    return ShardIndex(keys, labels, arrays["texts"], members)


def _misplaced(index: ShardIndex, size: int | None, classes: int | None) -> Iterator[tuple[str, str]]:
    """Key and what is wrong, of samples that lie outside of a tar of so many bytes, or whose labels are no class."""
    for extension, spans in index.members.items():
        offsets, sizes = spans.T
        fits = (offsets >= 0) & (sizes >= 0)
        if size is not None:
            fits &= (offsets <= size) & (sizes <= size - offsets)
        wrong = np.flatnonzero(~fits & ((offsets != -1) | (sizes != -1)))
        if wrong.size:
            yield index.key(int(wrong[0])), f".{shortened(extension, quoted=False)} does not lie within the tar"
        if extension in TEXT_MEMBERS and (sizes > TEXT_BYTES).any():
            row = int(np.argmax(sizes))
            yield index.key(row), f".{extension} has {int(sizes[row]):,} bytes; at most {TEXT_BYTES:,} are read"
    ids = index.label_ids.values
    if ids.size and (ids.min() < 0 or (classes is not None and ids.max() >= classes)):
        place = int(np.flatnonzero((ids < 0) | (ids >= (2**31 if classes is None else classes)))[0])
        yield index.key(int(np.searchsorted(index.label_ids.ends, place, side="right"))), "a label that is no class"
