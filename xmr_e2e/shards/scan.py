"""The index of a tar, made from the tar itself: headers within bounds, whoever wrote them."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.received import shortened
from xmr_e2e.shards.index import (
    CONTROL,
    LONGEST_KEY,
    MOST_EXTENSIONS,
    TEXT_BYTES,
    TEXT_MEMBERS,
    Rows,
    ShardIndex,
    Span,
)
from xmr_e2e.shards.manifest import TAR_BLOCK
from xmr_e2e.shards.schema import (
    IMAGE_EXTENSIONS,
    MEMBERS,
    MODALITIES,
    Metadata,
    decode_metadata,
    modalities_of,
    split_member_name,
)

HEADER_BYTES = 2**14
"""of all that stands before a tar member's content, at most: tarfile takes up to 4,000 times as much memory for it"""
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
    """The part of a tar's header that is kept; tarfile's own would keep all its attributes."""

    name: str
    offset: int
    size: int
    odd: str
    """its kind, where that is no plain file and no folder"""
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
    """The complaint about a member's name; empty if there is none."""
    if len(f"{key}.{extension}".encode()) > LONGEST_KEY:
        return f"a name of more than {LONGEST_KEY:,} bytes"
    return "a name with characters that would end a line" if CONTROL.search(f"{key}.{extension}") else ""


def _describe(member: tarfile.TarInfo) -> str:
    """The kind of a member that is no plain file and no folder; empty for these."""
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
