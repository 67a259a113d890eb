"""Files of tags that people gave to photographs."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

from preprocessing.common.published_text import RAW_TEXT_BYTES
from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes


def tag_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that is not blank, with its number from 1; a word that is not UTF-8 is taken for cp1252.

    Raises:
        XmrError: the file cannot be read.
    """
    try:
        data = read_bytes(path, most=RAW_TEXT_BYTES).removeprefix(BOM_UTF8)
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(data.split(b"\n"), start=1):
        words = _words(line)
        if words:
            yield number, words


def _words(line: bytes) -> list[str]:
    try:
        return line.decode().split()
    except UnicodeDecodeError:
        return [_decode(word) for word in line.split()]


def _decode(word: bytes) -> str:
    # Word by word: one odd tag must not garble its neighbours.
    try:
        return word.decode()
    except UnicodeDecodeError:
        return word.decode("cp1252", errors="replace")
