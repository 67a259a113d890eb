"""Files that others have made: bounds before they are read, and one rule for the names that stand in them.

Whatever is in such a file, it ends in a value of the declared type or in one XmrError that names file and key.
"""

from __future__ import annotations

import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import from_json

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import printable

Document = TypeVar("Document")

JSON_BYTES = 100 * 2**20
"""of a JSON file, at most: the manifest of ten million samples in shards of a thousand has 2 MB"""
NAME_RULE = "letters, digits, _, - and ., at most 200 of them, and the first is neither - nor ."
_NAME_BYTES = 200
"""of letters beyond ASCII, fewer: file systems take 255 bytes, and what belongs to a file is called after it"""
_NAME = re.compile(r"\w[\w.-]{0,199}")
_SHOWN = 60
"""characters of a value, in a message"""
_LONGEST_LINE = 300


def read_bytes(path: Path, *, most: int = JSON_BYTES) -> bytes:
    """Read a whole file of a known bound.

    Raises:
        XmrError: it is larger, or no regular file.
        OSError: it cannot be read.
    """
    status = path.stat()  # before it is opened: a pipe would be waited for
    if not stat.S_ISREG(status.st_mode):
        raise XmrError(f"{path}: not a regular file")
    if status.st_size > most:
        raise XmrError(f"{path}: {status.st_size:,} bytes; at most {most:,} are read")
    with open(path, "rb") as stream:
        content = stream.read(status.st_size + 1)  # as much is allocated as is asked for
        if len(content) > status.st_size:
            content += stream.read(most)
    if len(content) > most:
        raise XmrError(f"{path}: grows while it is read; at most {most:,} bytes are")
    return content


def parse_json(content: bytes | str, where: str, *, most: int = JSON_BYTES) -> Any:
    """Parse JSON of any shape: in UTF-8, nested at most 200 deep, with integers of at most 4,300 digits.

    Raises:
        XmrError: it is something else.
    """
    _check_size(content, where, most)
    try:
        return from_json(content)
    except ValueError as error:
        raise XmrError(f"{where} is no JSON that can be read: {error}") from error


def parse(kind: type[Document], content: bytes | str, where: str, *, most: int = JSON_BYTES) -> Document:
    """Parse JSON of a declared shape, such as a dataclass; nothing is converted, and a whole number stays one.

    Raises:
        XmrError: names the first key that has something else, as in "splits.train.shards.0.name".
    """
    _check_size(content, where, most)
    try:
        document: Document = _adapter(kind).validate_json(content, strict=True)  # type: ignore[arg-type]  # a class is hashable
        return document
    except ValidationError as error:
        raise XmrError(f"{where}: {describe_invalid(error)}") from error


def describe_invalid(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: the key, what it should be, and the value that it has."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    value = f", not {shortened(first['input'])}" if key and first["type"] != "missing" else ""
    message = first["msg"].removeprefix("Value error, ")
    return f"{key and shortened(key, quoted=False)}{': ' if key else ''}{message}{value}"


def shortened(value: Any, *, quoted: bool = True, most: int = _SHOWN) -> str:
    """A value as Python writes it, cut where it is longer than `most` characters; without characters that a terminal
    would obey."""
    text = ascii(value) if not isinstance(value, str) else repr(value[: most + 1])
    text = text if quoted else text[1:-1]
    return text if len(text) <= most else f"{text[:most]}…"


def first_line(error: BaseException) -> str:
    """The first line of a library's complaint about a file, not too long: it may repeat the file's content."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return printable(line[:_LONGEST_LINE] + ("…" if len(line) > _LONGEST_LINE else ""))


def check_name(name: str, where: str) -> str:
    """Give a name back that stands for a file directly within a folder, also in a URL and in a shell's command.

    Raises:
        XmrError: it could be a path, an option, a pattern, or more than one word; says which are taken.
    """
    if not is_plain(name):
        raise XmrError(f"{where}: the name {shortened(name)} is not a plain one: {NAME_RULE}; rename the file")
    return name


def is_plain(name: str) -> bool:
    """True for a name that stands for a file directly within a folder, and nothing else, wherever it is put."""
    return _NAME.fullmatch(name) is not None and ".." not in name and len(name.encode()) <= _NAME_BYTES


def inside(folder: Path, name: str) -> Path:
    """The file of this plain name in a folder; it need not be there.

    Raises:
        XmrError: not a plain name, no regular file, or a link that leads out of the folder.
    """
    path = folder / check_name(name, str(folder))
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise XmrError(f"{path} is a link that leads out of its folder; put the file itself there")
    if path.exists() and not path.is_file():
        raise XmrError(f"{path}: not a regular file")
    return path


def own_path(folder: Path, name: str) -> Path:
    """The path of a file or folder in this one that is about to be written: the folder may be somebody else's, and a
    link in it would have something elsewhere written over.

    Args:
        name: relative, such as "evaluation/test.json".

    Raises:
        XmrError: a link stands on the way there, or there.
    """
    path = folder
    for part in Path(name).parts:
        path /= part
        if path.is_symlink():
            raise XmrError(
                f"{path} is a link, and nothing is written through links in a run's folder, which may come from "
                "others: put the file or folder itself there, or keep the whole run elsewhere and link that"
            )
    return path


def _plain(name: str) -> str:
    if not is_plain(name):
        raise ValueError(f"should be a plain name ({NAME_RULE}); rename the file")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]
"""A field of a received document that names a file in its folder."""


def _check_size(content: bytes | str, where: str, most: int) -> None:
    if len(content) > most:
        raise XmrError(f"{where}: {len(content):,} bytes; at most {most:,} are read")


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
