"""Text files as publishers left them years ago: in any encoding, and XML that is not always well-formed.

What people write for this program is read strictly, by `preprocessing.common.tables`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes

RAW_TEXT_BYTES = 2**32
"""of a file of texts, at most"""
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DECLARED_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)""")
CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
MARKUP = re.compile(r"<!--.*?-->|<[/!?]?[A-Za-z][^<>]*>", re.DOTALL)


def read_any_encoding(path: Path) -> str:
    """A file's text: UTF-16 with its byte order mark, UTF-8, what its XML declaration says, or else cp1252.

    Raises:
        XmrError: the file cannot be read.
    """
    try:
        data = read_bytes(path, most=RAW_TEXT_BYTES)
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror}") from error
    for encoding in _encodings(data):
        try:
            return data.decode(encoding)
        except (UnicodeError, LookupError):
            continue
    return data.decode("cp1252", errors="replace")


def _encodings(data: bytes) -> Iterator[str]:
    if data.startswith(UTF16_MARKS):
        yield "utf-16"
    # Before the declaration: those are often wrong, and hardly any text of another encoding is valid UTF-8.
    yield "utf-8-sig"
    declared = DECLARED_ENCODING.match(data)
    if declared:
        yield declared[1].decode()


def read_fields(path: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Element name -> the plain texts of all elements of that name in an XML file, in their order.

    Raises:
        XmrError: the file cannot be read, or an element has no end; names the line.
    """
    # No XML parser: it would refuse the files with a bare "&" or an HTML entity, and one that resolves entities could
    # be made to read other files or to fill the memory. Here no declaration is looked at, so nothing can be expanded
    # but HTML's named characters.
    document = read_any_encoding(path)
    return {name: tuple(map(plain_text, _elements(document, name, path))) for name in names}


def _elements(document: str, name: str, path: Path) -> Iterator[str]:
    opening = re.compile(rf"<{name}(?:\s[^<>]*)?(?<!/)>", re.IGNORECASE)
    closing = re.compile(rf"</{name}\s*>", re.IGNORECASE)
    position = 0
    while start := opening.search(document, position):
        end = closing.search(document, start.end())
        if end is None:
            line = document.count("\n", 0, start.start()) + 1
            raise XmrError(f"{path}, line {line}: <{name}> has no end: the file is cut off or damaged")
        yield document[start.end() : end.start()]
        position = end.end()


def plain_text(fragment: str) -> str:
    """The words of a piece of XML or HTML, parted by single spaces: without tags, with characters for references."""
    text = CDATA.sub(r"\1", fragment)
    for _ in range(2):  # the tags and references of a web page are themselves escaped within XML
        text = unescape(MARKUP.sub(" ", text))
    return " ".join(text.split())
