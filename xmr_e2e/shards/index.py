"""The index beside each tar: where every member of every sample lies, so that samples are read by position.

It is a safetensors file `<shard>.index.safetensors` (arrays only, nothing executable) with n samples:
`keys` (all keys' bytes), `key_ends` (n,), `labels` (all class ids), `label_ends` (n,), `texts` (n,) how many there are,
and for every member extension `offset.<ext>` and `size.<ext>` (n,) in bytes, -1 where a sample has no such member.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.schema import (
    IMAGE_EXTENSIONS,
    MEMBERS,
    MODALITIES,
    Metadata,
    decode_metadata,
    modalities_of,
    split_member_name,
)

TEXT_MEMBERS = ("json", "txt", "cls")
_KNOWN = {*TEXT_MEMBERS, *(extension for extensions in MEMBERS.values() for extension in extensions)}
_MAGIC = {
    "compressed with gzip": b"\x1f\x8b",
    "compressed with bzip2": b"BZh",
    "compressed with xz": b"\xfd7zXZ\0",
    "compressed with zstd": b"\x28\xb5\x2f\xfd",
    "compressed with lz4": b"\x04\x22\x4d\x18",
    "a zip archive": b"PK\x03\x04",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c",
}

Span = tuple[int, int]
"""Where a member's bytes lie in the tar: offset and size."""
Report = Callable[[str, str], None]
"""What is told of a problem: the key, empty when it is the whole shard's, and what is wrong."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a shard or with one of its samples."""

    shard: str
    """the tar's file name; the split's name where the whole split is meant"""
    key: str
    """the sample, or empty where the whole shard is meant"""
    what: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.shard, self.key, self.what) if part)


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
        bounds = [0, *self.ends.tolist(), len(self.values)]
        if bounds != sorted(bounds):
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
        """Where the row's member with this extension lies, None if it has none."""
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
        """How many samples have each modality; those that none has are left out."""
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


def load_index(shard: Path) -> ShardIndex:
    """Read the index beside a shard.

    Raises:
        XmrError: it is missing, damaged or of an older version.
    """
    path = index_path(shard)
    try:
        arrays = load_file(path)
        keys = Rows(arrays["keys"], arrays["key_ends"])
        labels = Rows(arrays["labels"], arrays["label_ends"])
        extensions = sorted(name.partition(".")[2] for name in arrays if name.startswith("offset."))
        members = {ext: np.stack([arrays[f"offset.{ext}"], arrays[f"size.{ext}"]], axis=1) for ext in extensions}
        keys.values.tobytes().decode()  # fails here where it would fail later
        return ShardIndex(keys, labels, arrays["texts"], members)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise XmrError(f"{path}: the index is missing or damaged ({error}); rebuild the shards") from error


def scan_shard(
    shard: Path,
    classes: Sequence[str] | None = None,
    *,
    required: Sequence[str] = ("image", "text"),
    problems: list[Problem] | None = None,
    without: Collection[str] = (),
) -> tuple[ShardIndex, list[Metadata]]:
    """Make the index from the tar itself; also return each sample's metadata.

    Args:
        classes: class names in the order of their ids; None leaves the label ids empty.
        required: the modalities that each sample must have; with none, each must have any.
        problems: where to note what is wrong, and go on; without it, the first problem is raised.
        without: keys of samples to be passed over.

    Raises:
        XmrError: not a whole tar, members of one key that are not adjacent, a sample without a required
            modality, a label that is in no class list. Each names shard and key.
        OSError: the file cannot be read.
    """

    def report(key: str, what: str) -> None:
        problem = Problem(shard.name, key, what)
        if problems is None:
            raise XmrError(str(shard.parent / str(problem)))
        problems.append(problem)

    samples = _group_members(_list_members(shard, report), report, without)
    with open(shard, "rb") as stream:
        metadata = [_read_metadata(stream, key, spans, required, report) for key, spans in samples.items()]
    ids = {name: number for number, name in enumerate(classes or ())}
    labels = [_label_ids(item, ids, key, report) if classes else () for key, item in zip(samples, metadata)]
    extensions = sorted({extension for spans in samples.values() for extension in spans})
    members = {
        ext: np.array([spans.get(ext, (-1, -1)) for spans in samples.values()], np.int64).reshape(-1, 2)
        for ext in extensions
    }
    texts = np.array([len(item.texts) for item in metadata], np.int32)
    keys = Rows.of([key.encode() for key in samples], np.uint8)
    return ShardIndex(keys, Rows.of(labels, np.int32), texts, members), metadata


def _list_members(shard: Path, report: Report) -> list[tarfile.TarInfo]:
    """The tar's members, as far as it can be read."""
    members: list[tarfile.TarInfo] = []
    packed = _compression(shard)
    if packed:
        report("", f"{packed}; unpack it first: samples are read by their place, which only a plain tar has")
        return members
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                members.append(member)
            end = tar.offset
    except OSError:
        raise
    except Exception as error:  # beside its own errors, tarfile lets through ValueError and others for damaged headers
        report("", f"not a whole tar file: {error}")
        return members
    # tarfile takes a cut at a member boundary, or a damaged header, for the end; a whole tar ends with 1024 zeros.
    with open(shard, "rb") as stream:
        stream.seek(end)
        if stream.read(1024) != bytes(1024):
            report("", f"the tar is cut or damaged: neither a member nor the end mark at byte {end:,}")
    return members


def _compression(file: Path) -> str | None:
    """The packer that wrote a file, by its first bytes: whatever it is called."""
    with open(file, "rb") as stream:
        first = stream.read(512)
    if first[257:262] == b"ustar":  # a plain tar, whose first member's name may begin with anything
        return None
    return next((name for name, magic in _MAGIC.items() if first.startswith(magic)), None)


def _group_members(
    members: Sequence[tarfile.TarInfo], report: Report, without: Collection[str]
) -> dict[str, dict[str, Span]]:
    """Key -> extension -> span, in the order of the tar. What WebDataset passes over is passed over here, too."""
    samples: dict[str, dict[str, Span]] = {}
    previous = None
    for member in members:
        key, extension = split_member_name(member.name)
        key = key.encode(errors="backslashreplace").decode()  # of a name that is not UTF-8
        if member.isdir() or not extension or not key or key.endswith("/") or key in without:
            continue
        if not member.isfile() or member.issparse():
            if extension in _KNOWN:
                report(key, f".{extension} is {_describe(member)}; pack the files as they are")
            continue
        if key != previous and key in samples:
            report(key, "the key appears twice; a sample's members must be adjacent and keys unique")
        elif extension in samples.get(key, ()):
            report(key, f"two .{extension} members: keys must be unique")
        samples.setdefault(key, {})[extension] = (member.offset_data, member.size)
        previous = key
    return samples


def _describe(member: tarfile.TarInfo) -> str:
    if member.issparse():
        return "a sparse member, without the zeros of its file"
    return f"a link to {member.linkname!r}" if member.issym() or member.islnk() else "neither a file nor a folder"


def _read_metadata(
    stream: BinaryIO, key: str, spans: dict[str, Span], required: Sequence[str], report: Report
) -> Metadata:
    texts = {}
    for extension in TEXT_MEMBERS:
        if extension in spans:
            offset, size = spans[extension]
            stream.seek(offset)
            texts[extension] = stream.read(size)
    try:
        metadata = decode_metadata(texts, key)
    except XmrError as error:
        report(key, str(error).removeprefix(f"{key}: "))
        return Metadata((), (), "")
    _check_modalities(key, spans, len(metadata.texts), required, report)
    return metadata


def _check_modalities(key: str, spans: dict[str, Span], texts: int, required: Sequence[str], report: Report) -> None:
    present = modalities_of(spans, texts)
    members = ", ".join(sorted(spans))
    if any("." in name and name.rpartition(".")[2] in IMAGE_EXTENSIONS for name in spans):
        members += "; a key ends at the first dot of the file's name"
    for modality in required:
        if modality not in present and modality == "text":
            report(key, "the text is missing (neither .json with texts or caption, nor .txt)")
        elif modality not in present:
            report(key, f"the {modality} member is missing (found: {members})")
    if not present and not required:
        report(key, f"the sample holds neither {', '.join(MODALITIES[:-1])} nor {MODALITIES[-1]} (found: {members})")


def _label_ids(metadata: Metadata, ids: dict[str, int], key: str, report: Report) -> tuple[int, ...]:
    for name in metadata.labels:
        if name not in ids:
            report(key, f"label {name!r} is in no class list")
    return tuple(sorted(ids[name] for name in metadata.labels if name in ids))
