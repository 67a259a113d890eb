"""The index beside each tar: where every member of every sample lies, so that samples are read by position.

It is a safetensors file `<shard>.index.safetensors` (arrays only, nothing executable) with n samples:
`keys` (all keys' bytes), `key_ends` (n,), `labels` (all class ids), `label_ends` (n,), `texts` (n,) how many there are,
and for every member extension `offset.<ext>` and `size.<ext>` (n,) in bytes, -1 where a sample has no such member.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.received import read_bytes, shortened
from xmr_e2e.shards.manifest import MOST_SAMPLES, TAR_BLOCK, Shard, shard_file
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
TEXT_BYTES = 16 * 2**20
"""of such a member, at most: it is parsed as a whole"""
HEADER_BYTES = 2**14
"""of all that stands before a tar member's content, at most: tarfile takes up to 4,000 times as much memory for it"""
LONGEST_KEY = 1024
"""bytes"""
MOST_EXTENSIONS = 256
"""that differ, in one shard: each takes 16 bytes of every sample in the index"""
MOST_LABELS = 4096
"""of one sample, as far as the size of an index is concerned"""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""what no key holds: keys stand in lists, a line each"""
_MANY_DIGITS = re.compile(rb"\d{64}")
"""tarfile's pattern for attributes takes the square of their number in time"""
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
        return one_line(": ".join(part for part in (self.shard, self.key, self.what) if part))


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


def most_index_bytes(samples: int) -> int:
    """How large the index of so many samples can be; it is not read where it is larger."""
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


class _Member(NamedTuple):
    """What is kept of a tar's header; tarfile's own would keep all its attributes."""

    name: str
    offset: int
    size: int
    odd: str
    """what it is, where that is no plain file and no folder"""
    is_folder: bool


class _Headers:
    """A tar as tarfile reads it: it asks for as many bytes as a header says, and for many headers of one member."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.room = HEADER_BYTES

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, place: int) -> int:
        if not 0 <= place < 2**63:
            raise tarfile.ReadError(f"a member that goes on at byte {shortened(place)}")
        return self.stream.seek(place)

    def read(self, size: int) -> bytes:
        self.room -= size
        if size < 0 or self.room < 0:
            raise tarfile.ReadError(f"a member with more than {HEADER_BYTES:,} bytes of names and attributes")
        data = self.stream.read(size)
        if size > TAR_BLOCK and _MANY_DIGITS.search(data):
            raise tarfile.ReadError("a member with attributes that are no attributes")
        return data


def _list_members(shard: Path, report: Report) -> list[_Member]:
    """The tar's members, as far as it can be read."""
    members: list[_Member] = []
    packed = _compression(shard)
    if packed:
        report("", f"{packed}; unpack it first: samples are read by their place, which only a plain tar has")
        return members
    with open(shard, "rb") as stream:
        try:
            end = _read_headers(stream, members)
        except OSError:
            raise
        except Exception as error:  # beside its own errors, tarfile lets through ValueError and others for bad headers
            report("", f"not a whole tar file: {error}")
            return members
        # tarfile takes a cut at a member boundary, or a damaged header, for the end; a whole tar ends with 1024 zeros.
        stream.seek(end)
        if stream.read(1024) != bytes(1024):
            report("", f"the tar is cut or damaged: neither a member nor the end mark at byte {end:,}")
    return members


def _read_headers(stream: BinaryIO, members: list[_Member]) -> int:
    """Add the tar's members one by one; return where the last of them ends."""
    total = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    headers = _Headers(stream)
    with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]  # all that tarfile calls
        end = -1
        while (found := tar.next()) is not None:
            name = found.name.encode(errors="backslashreplace").decode()  # of one that is not UTF-8
            size = found.size if found.isfile() and not found.issparse() else 0
            if tar.offset <= end or not 0 <= size <= total - found.offset_data:
                raise tarfile.ReadError(
                    f"unexpected end of data: {shortened(name, quoted=False)} has {size:,} bytes from byte "
                    f"{found.offset_data:,}, and the tar has {total:,}"
                )
            end = tar.offset
            members.append(_Member(name, found.offset_data, size, _describe(found), found.isdir()))
            # tarfile would keep all of them; and what a header says of all that follow, in each of them.
            tar.members.clear()
            tar.pax_headers = {}
            headers.room = HEADER_BYTES
        return tar.offset


def _compression(file: Path) -> str | None:
    """The packer that wrote a file, by its first bytes: whatever it is called."""
    with open(file, "rb") as stream:
        first = stream.read(512)
    if first[257:262] == b"ustar":  # a plain tar, whose first member's name may begin with anything
        return None
    return next((name for name, magic in _MAGIC.items() if first.startswith(magic)), None)


def _group_members(members: Sequence[_Member], report: Report, without: Collection[str]) -> dict[str, dict[str, Span]]:
    """Key -> extension -> span, in the order of the tar. What WebDataset passes over is passed over here, too."""
    samples: dict[str, dict[str, Span]] = {}
    extensions: set[str] = set()
    previous = None
    for member in members:
        key, extension = split_member_name(member.name)
        if member.is_folder or not extension or not key or key.endswith("/") or key in without:
            continue
        problem = _unusable_name(key, extension)
        if problem or member.odd:
            if problem or extension in _KNOWN:
                report(key, problem or f".{extension} is {member.odd}; pack the files as they are")
            continue
        if extension not in extensions and len(extensions) == MOST_EXTENSIONS:
            report(key, f"more than {MOST_EXTENSIONS} kinds of members in one shard: .{extension}")
            continue
        extensions.add(extension)
        if key != previous and key in samples:
            report(key, "the key appears twice; a sample's members must be adjacent and keys unique")
        elif extension in samples.get(key, ()):
            report(key, f"two .{extension} members: keys must be unique")
        samples.setdefault(key, {})[extension] = (member.offset, member.size)
        previous = key
    return samples


def _unusable_name(key: str, extension: str) -> str:
    """What is wrong with a member's name; empty if nothing is."""
    if len(f"{key}.{extension}".encode()) > LONGEST_KEY:
        return f"a name of more than {LONGEST_KEY:,} bytes"
    return "a name with characters that would end a line" if CONTROL.search(f"{key}.{extension}") else ""


def _describe(member: tarfile.TarInfo) -> str:
    """What a member is that is no plain file and no folder; empty for these."""
    if member.issparse():
        return "a sparse member, without the zeros of its file"
    if member.isfile() or member.isdir():
        return ""
    return (
        f"a link to {shortened(member.linkname)}" if member.issym() or member.islnk() else "neither a file nor a folder"
    )


def _read_metadata(
    stream: BinaryIO, key: str, spans: dict[str, Span], required: Sequence[str], report: Report
) -> Metadata:
    texts = {}
    for extension in TEXT_MEMBERS:
        if extension in spans:
            offset, size = spans[extension]
            if size > TEXT_BYTES:
                report(key, f".{extension} has {size:,} bytes; at most {TEXT_BYTES:,} are read")
                return Metadata((), (), "")
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
            report(key, f"label {shortened(name)} is in no class list")
    return tuple(sorted(ids[name] for name in metadata.labels if name in ids))
