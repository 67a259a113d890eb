"""Point clouds in PCD files (Point Cloud Library, version 0.7): as text, binary, and compressed by LZF."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.data.shape_headers import UnusableShape

_DATA = re.compile(rb"^DATA[ \t]+(\w+)[ \t]*\r?\n?", re.MULTILINE)
_HEAD = 10_000
"""bytes of a header, at most"""
_KINDS = {b"F": "f", b"I": "i", b"U": "u"}
_AXES = (b"x", b"y", b"z")


@dataclass(frozen=True)
class _Header:
    names: list[bytes]
    kinds: list[np.dtype[np.generic]]
    """of each field's numbers, little-endian"""
    counts: list[int]
    """numbers of each field"""
    points: int
    coding: bytes
    content: int
    """where the points begin"""

    @property
    def widths(self) -> list[int]:
        """Bytes of each field of a point."""
        return [kind.itemsize * count for kind, count in zip(self.kinds, self.counts)]


def count_pcd(data: bytes) -> tuple[int, int]:
    """Points that a PCD file claims, and no faces.

    Raises:
        UnusableShape: its header is damaged, or it has fewer bytes than the points would have.
    """
    header = _read_header(data)
    held, needed = len(data) - header.content, header.points
    if header.coding == b"ascii":
        needed *= 2 * len(_AXES)  # a digit and a blank for each
    elif header.coding == b"binary":
        needed *= sum(header.widths)
    elif header.coding == b"binary_compressed":
        held, needed = _compressed_sizes(data, header)[1], needed * sum(header.widths)
    else:
        raise UnusableShape(f"cannot be read: PCD data in {header.coding!r}, which is none of its three codings")
    if needed > held + 1:  # the last line of a text may have no end
        raise UnusableShape(f"is cut or damaged: its PCD header claims {header.points:,} points, which do not fit into "
                            f"{held:,} bytes")  # fmt: skip
    return header.points, 0


def read_pcd(data: bytes) -> NDArray[np.float64]:
    """Points (n, 3) of a PCD file that `count_pcd` has found fit to be read.

    Raises:
        UnusableShape: they are not what the header says.
    """
    header = _read_header(data)
    if header.coding == b"ascii":
        return _read_text(data[header.content :], header)
    if header.coding == b"binary":
        names = [str(number) for number in range(len(header.names))]
        numbers = [(name, kind, (count,)) for name, kind, count in zip(names, header.kinds, header.counts)]
        rows = np.frombuffer(data, np.dtype(numbers), header.points, header.content)
        return np.stack([rows[str(header.names.index(axis))][:, 0].astype(np.float64) for axis in _AXES], 1)
    return _read_columns(data, header)


def _read_header(data: bytes) -> _Header:
    found = _DATA.search(data, 0, _HEAD)
    if found is None:
        raise UnusableShape("cannot be read: its PCD header does not end with a line DATA")
    lines = (line.split() for line in data[: found.start()].splitlines())
    values = {words[0]: words[1:] for words in lines if words and not words[0].startswith(b"#")}
    try:
        names = values[b"FIELDS"]
        kinds = [np.dtype(f"<{_KINDS[kind]}{int(size)}") for kind, size in zip(values[b"TYPE"], values[b"SIZE"])]
        counts = [int(count) for count in values.get(b"COUNT", [b"1"] * len(names))]
        points = int(values[b"POINTS"][0]) if b"POINTS" in values else int(values[b"WIDTH"][0]) * int(
            values[b"HEIGHT"][0]
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UnusableShape(f"cannot be read: its PCD header is damaged ({error!r})") from error
    if not len(names) == len(kinds) == len(counts) or min(counts, default=0) < 1 or points < 0:
        raise UnusableShape("cannot be read: the lines of its PCD header do not fit together")
    if not set(_AXES) <= set(names):
        raise UnusableShape("cannot be read: its PCD fields are not x, y, z and others")
    return _Header(names, kinds, counts, points, found[1], found.end())


def _read_text(content: bytes, header: _Header) -> NDArray[np.float64]:
    words = np.array(content.split(), dtype=np.bytes_).astype(np.float64)
    width = sum(header.counts)
    if len(words) < header.points * width:
        raise UnusableShape(f"is cut or damaged: {header.points:,} points of {width} numbers are not in its PCD file")
    columns = [sum(header.counts[: header.names.index(axis)]) for axis in _AXES]
    table: NDArray[np.float64] = words[: header.points * width].reshape(header.points, width)[:, columns]
    return table


def _compressed_sizes(data: bytes, header: _Header) -> tuple[int, int]:
    """Bytes of the compressed points, and of the points."""
    try:
        compressed, whole = struct.unpack_from("<II", data, header.content)
    except struct.error as error:
        raise UnusableShape("is cut or damaged: its PCD header is not followed by points") from error
    # LZF makes at most 264 bytes of three.
    if compressed > len(data) - header.content - 8 or whole > 88 * compressed:
        raise UnusableShape(f"is cut or damaged: {compressed:,} bytes of compressed points are not in its PCD file, or "
                            f"cannot be {whole:,} bytes of points")  # fmt: skip
    return compressed, whole


def _read_columns(data: bytes, header: _Header) -> NDArray[np.float64]:
    """Compressed points are stored field by field."""
    compressed, whole = _compressed_sizes(data, header)
    start = header.content + 8
    content = decompress_lzf(data[start : start + compressed], whole)
    columns = []
    for axis in _AXES:
        field = header.names.index(axis)
        begin = header.points * sum(header.widths[:field])
        numbers = np.frombuffer(content, header.kinds[field], header.points * header.counts[field], begin)
        columns.append(numbers[:: header.counts[field]].astype(np.float64))
    return np.stack(columns, 1)


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Bytes that liblzf has compressed: runs of up to 32 bytes, and copies of what stands before.

    Raises:
        UnusableShape: they are not that, or do not become this many bytes.
    """
    found, place = bytearray(), 0
    try:
        while place < len(data) and len(found) <= size:
            control = data[place]
            place += 1
            if control < 32:
                found += data[place : place + control + 1]
                place += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[place]
                place += 1
            start = len(found) - ((control & 31) << 8) - data[place] - 1
            place += 1
            _copy_within(found, start, length + 2)
    except IndexError as error:
        raise UnusableShape("is cut or damaged: its compressed PCD data end early") from error
    if len(found) != size:
        raise UnusableShape(f"is cut or damaged: its compressed PCD data are not {size:,} bytes")
    return bytes(found)


def _copy_within(found: bytearray, start: int, length: int) -> None:
    """Append bytes that begin there; they may reach into what is appended."""
    if start < 0:
        raise UnusableShape("is damaged: its compressed PCD data begin before their beginning")
    part = found[start : start + length]
    repeated = part * (length // len(part) + 1)
    found += repeated[:length]
