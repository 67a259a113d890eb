"""Files of pretrained word vectors: word2vec's text and binary forms, fastText's .vec, GloVe's text, numpy's arrays.

Only the vectors of the words that are asked for are kept, so that a file of millions takes no more memory than they do.
gensim's reader keeps all, and takes neither tabs nor a word that holds a blank.
"""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import unicodedata
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.bounds import LARGE
from xmr_e2e.data.vector_arrays import MAGIC, array_entries, open_array
from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

SHOWN = 3
"""first words of a file, for messages"""
_LINE = 2**20
_CHUNK = 2**20
_LONGEST_WORD = 4096
_NUMBER = 64
"""characters of a number, at most"""
_DIGITS = 15
"""of a number in a header, at most"""
_BLANKS = 8
"""most blanks that are looked for in a word of a binary file"""
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_OTHERS = {
    b"PK\x03\x04": "a zip archive: unpack it, and name the file of vectors in it",
    b"\xba\x16\x4f\x2f": "a model of fastText: name the .vec file that belongs to it",
    b"\x80": "a pickle, such as gensim's own format: write it with gensim's save_word2vec_format",
}
"""first bytes -> what such a file is, and the way out"""


_Vectors: TypeAlias = dict[str, NDArray[np.float32]]


class Head(NamedTuple):
    """The beginning of a file."""

    announced: int | None
    """vectors, by its header; None for GloVe's, which has none"""
    dim: int
    is_binary: bool


@dataclass(frozen=True)
class FileVectors:
    """Vectors of some words, out of a file."""

    vectors: dict[str, NDArray[np.float32]]
    """word -> (dim,); all finite"""
    first_words: tuple[str, ...]
    """of the file"""
    rows: int
    """vectors that were looked at"""
    announced: int | None
    """vectors of which the header speaks"""
    unreadable: int
    """words that are not UTF-8"""


def read_head(path: Path) -> Head:
    """Look at the first two lines.

    Raises:
        XmrError: the file cannot be read, is of another kind, or its header does not fit its vectors.
    """
    if _is_array(path):
        rows, dim = open_array(path).shape
        return Head(rows, dim, is_binary=True)
    with _open(path) as stream:
        return _head(stream, path)


def read_vectors(path: Path, words: Collection[str], *, most: int | None = None) -> FileVectors:
    """The vectors of lower-case words; where the file has a word only with capitals ("Paris"), the first of these.

    Args:
        most: vectors to look at, from the beginning; None looks at all.

    Raises:
        XmrError: as `read_head`; a word's vector has another length, is not finite or no numbers; the file ends early.
    """
    if _is_array(path):
        return _from_array(path, words, most)
    exact: _Vectors = {}
    folded: _Vectors = {}
    first_words: list[str] = []
    rows = unreadable = 0
    with _open(path) as stream:
        head = _head(stream, path)
    with _open(path) as stream:
        entries = _binary_entries(stream, head, path) if head.is_binary else _text_entries(stream, head, path)
        for place, raw, body in itertools.islice(entries, most):
            rows += 1
            try:
                word = raw.decode()
            except UnicodeDecodeError:
                unreadable += 1
                continue
            if rows <= SHOWN:
                first_words.append(word)
            own, known = _wanted(word, words, exact, folded)
            if own and (vector := _vector(body, head, f"{path}, {place}, {word!r}")) is not None:
                known[own] = vector
    if most is None or rows < most:
        _check_end(path, head, rows)
    if 2 * unreadable > rows:
        raise XmrError(
            f"{path}: {unreadable:,} of its {rows:,} words are not UTF-8: another encoding, a damaged file, or a "
            f"header with another length of the vectors than {head.dim}"
        )
    return FileVectors(folded | exact, tuple(first_words), rows, head.announced, unreadable)


def _wanted(word: str, words: Collection[str], exact: _Vectors, folded: _Vectors) -> tuple[str, _Vectors]:
    """The lower-case word, "" where it is not asked for or was there before, and the table in which it belongs."""
    own, known = (word, exact) if word in words else (_folded(word), folded)
    return (own if own in words and own not in known else ""), known


def _is_array(path: Path) -> bool:
    """True for numpy's own form, whatever the file's name."""
    if not path.is_file():
        return False  # as is said where it is opened
    with _open(path) as stream:
        return stream.read(len(MAGIC)) == MAGIC


def _from_array(path: Path, words: Collection[str], most: int | None) -> FileVectors:
    exact: _Vectors = {}
    folded: _Vectors = {}
    first_words: list[str] = []
    rows = 0
    for place, word, row in itertools.islice(array_entries(path), most):
        rows += 1
        if rows <= SHOWN:
            first_words.append(word)
        own, known = _wanted(word, words, exact, folded)
        if own:
            with np.errstate(over="ignore"):  # infinite then, as is said below
                known[own] = _finite(np.array(row, np.float32), f"{path}, {place}, {word!r}")
    return FileVectors(folded | exact, tuple(first_words), rows, None, 0)


def _check_end(path: Path, head: Head, rows: int) -> None:
    if not rows:
        raise XmrError(f"{path} holds no vectors")
    if head.announced is not None and rows < head.announced:
        raise XmrError(
            f"{path} ends after {rows:,} vectors, and its header announces {head.announced:,}: it was cut short; "
            "copy it again"
        )


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The file's content, unpacked; an error while it is read becomes one that names it."""
    if path.is_dir():
        raise XmrError(f"--data.words.file: {path} is a folder; name the file in it")
    if not path.exists():
        raise XmrError(f"--data.words.file: {path} does not exist")
    if not path.is_file():  # a pipe would be waited for
        raise XmrError(f"--data.words.file: {path} is not a regular file")
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
        for start, meaning in _OTHERS.items():
            if magic.startswith(start):
                raise XmrError(f"{path}: not a word2vec file, but {meaning}")
        opener: Callable[..., Any] = next(
            (opener for start, opener in _OPENERS.items() if magic.startswith(start)), open
        )
        with cast(BinaryIO, opener(path, "rb")) as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise XmrError(f"--data.words.file: {path} cannot be read: {reason}") from error


def _head(stream: BinaryIO, path: Path) -> Head:
    first = stream.readline(_LINE).removeprefix(b"\xef\xbb\xbf")
    fields = first.split()
    if not (len(fields) == 2 and all(field.isdigit() for field in fields)):
        dim = _numbers_at_the_end(fields)
        if not dim or not _is_text(first):
            shown = first[:40].decode(errors="replace").strip()
            raise XmrError(
                f"{path}: not a word2vec file, neither text nor binary, and not GloVe's: it begins with {shown!r}"
            )
        return Head(None, dim, False)
    if max(map(len, fields)) > _DIGITS or int(fields[1]) > LARGE:
        raise XmrError(
            f"{path}: its header announces {shortened(fields[0].decode())} vectors of {shortened(fields[1].decode())} "
            f"numbers; at most {LARGE:,} numbers are read"
        )
    count, dim = int(fields[0]), int(fields[1])
    second = stream.readline(_LINE)
    if not second.strip() or not dim:
        raise XmrError(f"{path} holds no vectors: its header announces {count:,} of {dim} numbers")
    found = _numbers_at_the_end(second.split())
    if not found and not _is_text(second):
        return Head(count, dim, True)
    if found != dim:
        raise XmrError(f"{path}: the header announces vectors of {dim} numbers, and line 2 has {found}")
    return Head(count, dim, False)


def _numbers_at_the_end(fields: list[bytes]) -> int:
    """The number of numbers at the end of a line, behind its word, which may be a number itself."""
    numbers = len(list(itertools.takewhile(_is_number, reversed(fields))))
    return min(numbers, len(fields) - 1) if fields else 0


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _is_text(line: bytes) -> bool:
    """True for bytes that are not those of numbers in binary form."""
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in line)


def _text_entries(stream: BinaryIO, head: Head, path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Line, word and what follows it."""
    longest = _LINE + _NUMBER * head.dim
    for number in itertools.count(1):
        line = stream.readline(longest)
        if not line:
            return
        if len(line) == longest:
            raise XmrError(
                f"{path}: line {number} has no end within {longest:,} bytes: no file of {head.dim}-d vectors"
            )
        if number == 1:
            if head.announced is not None:
                continue
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(parts := line.split(None, 1)):
            yield f"line {number}", parts[0], parts[1] if len(parts) > 1 else b""


def _binary_entries(stream: BinaryIO, head: Head, path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Number, word and vector of each entry; with or without a line break between them."""
    stream.readline(_LINE)
    size, buffer, start, ended = 4 * head.dim, b"", 0, False
    for number in itertools.count(1):
        while len(buffer) - start < 2 * (_LONGEST_WORD + size) and not ended:
            more = stream.read(_CHUNK + size)
            buffer, start, ended = buffer[start:] + more, 0, not more
        while buffer[start : start + 1] == b"\n":
            start += 1
        if start == len(buffer):
            return
        blank = _end_of_word(buffer, start, size)
        end = blank + 1 + size
        if blank < 0 or end > len(buffer):
            raise XmrError(
                f"{path} ends within vector {number:,}: it was cut short, or the vectors are not of {head.dim} "
                "numbers, as its header says"
            )
        yield f"vector {number}", buffer[start:blank], buffer[blank + 1 : end]
        start = end


def _end_of_word(buffer: bytes, start: int, size: int) -> int:
    """The place of the blank behind a word: the first one, unless only behind a later one, of a word such as
    "new york", the vector ends where a next word begins."""
    blanks: list[int] = []
    blank = start - 1
    while len(blanks) < _BLANKS and (blank := buffer.find(b" ", blank + 1, start + _LONGEST_WORD)) >= 0:
        blanks.append(blank)
        if _word_begins(buffer, blank + 1 + size):
            return blank
    return blanks[0] if blanks else -1


def _word_begins(buffer: bytes, place: int) -> bool:
    rest = buffer[place : place + _LONGEST_WORD].lstrip(b"\n")
    if not rest:
        return place <= len(buffer)
    try:
        return rest[: rest.find(b" ")].decode().isprintable() and b" " in rest
    except UnicodeDecodeError:
        return False


def _vector(body: bytes, head: Head, where: str) -> NDArray[np.float32] | None:
    """None where the word goes on: it holds a blank."""
    if head.is_binary:
        vector = np.frombuffer(body, "<f4").astype(np.float32)
    else:
        fields = body.split()
        if len(fields) > head.dim and not _is_number(fields[-head.dim - 1]):
            return None
        if len(fields) != head.dim:
            raise XmrError(f"{where}: {len(fields)} numbers instead of {head.dim}")
        try:
            with np.errstate(over="ignore"):  # infinite then, as is said below
                vector = np.array(list(map(float, fields))).astype(np.float32)
        except ValueError as error:
            raise XmrError(f"{where}: {error}") from error
    return _finite(vector, where)


def _finite(vector: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    if not np.isfinite(vector).all():
        raise XmrError(f"{where}: the vector holds NaN or infinite values; mend the file, or take another one")
    return vector


def _folded(word: str) -> str:
    return (word if word.isascii() else unicodedata.normalize("NFC", word)).lower()
