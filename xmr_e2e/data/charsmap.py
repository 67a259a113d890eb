"""The tables by which sentencepiece replaces characters, as far as to see how long they can make a text."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_NORMALIZER, _TABLE = 3, 2
"""numbers of the fields of a sentencepiece model, and of its normalizer_spec, in which the table lies"""


def longest_replacement(table: bytes) -> int:
    """Characters of the longest text by which a table replaces one, at least 1.

    table: 4 bytes, the length of a trie; the trie; the replacements, each of them ended by a zero byte.
    """
    if len(table) < 4:
        return 1
    (trie,) = struct.unpack_from("<I", table)
    return max(1, *(len(text.decode(errors="replace")) for text in table[4 + trie :].split(b"\0")))


def character_tables(model: bytes) -> Iterator[bytes]:
    """The tables in a sentencepiece model, in protobuf's encoding.

    Raises:
        ValueError: it is damaged.
    """
    for normalizer in _fields(model, _NORMALIZER):
        yield from _fields(normalizer, _TABLE)


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """The contents of all fields of a number; the parser takes the last of them, or what they are together."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        match tag & 7:
            case 0:
                _, place = _varint(message, place)
            case 1:
                place += 8
            case 2:
                size, place = _varint(message, place)
                if tag >> 3 == wanted:
                    yield message[place : place + size]
                place += size
            case 5:
                place += 4
            case kind:
                raise ValueError(f"not a sentencepiece model: a field of kind {kind}")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        value |= (message[place] & 0x7F) << shift
        place += 1
        if message[place - 1] < 0x80:
            return value, place
    raise ValueError("not a sentencepiece model: a number without an end")
