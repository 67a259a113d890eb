"""Files that are whole or not there, and their checksums."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from xmr_e2e.errors import XmrError
from xmr_e2e.received import parse_json, read_bytes

CHUNK = 2**22


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put this file's name into the OSError where writing it fails meanwhile: of a full disk, Python does not say which
    file it was."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, whoever made it.

    Raises:
        XmrError: it holds no JSON object, or is larger than any of them.
    """
    document = parse_json(read_bytes(path), str(path))
    if not isinstance(document, dict):
        raise XmrError(f"{path} holds no JSON object")
    return document


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part of it.

    Args:
        mode: the file's permissions, of which the umask takes some.

    Raises:
        OSError: it cannot be written; has the file's name.
    """
    with (
        writing(path) as temporary,
        open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file,
    ):
        file.write(content)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A path to write to, in the place of a file that it becomes at the end, whole and on the disk, or not at all.

    Raises:
        OSError: it cannot be written; has the file's name.
    """
    temporary = _unfinished(path)
    try:
        yield temporary
        fsync_file(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # which would hide what went wrong
            temporary.unlink(missing_ok=True)


def fsync_file(path: Path) -> None:
    """Return when a file that was written lies on the disk."""
    with naming(path), open(path, "rb") as stream:
        os.fsync(stream.fileno())


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def crc32_of(path: Path) -> str:
    """The CRC-32 of a file's content, in hexadecimal."""
    value = 0
    with open(path, "rb") as stream:
        while part := stream.read(CHUNK):
            value = zlib.crc32(part, value)
    return f"{value:08x}"


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` hold what `source` holds, at once or not at all: a second name for it where the file system can.

    Only for files that are replaced and never written into (`write_atomically`).
    """
    temporary = _unfinished(target)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # rename leaves it there where target was the same file already


def _unfinished(path: Path) -> Path:
    """The path of a file that this process has not finished: two processes may write the same one at the same time.

    What killed processes of this machine have left is removed; it may be a second name of a file in use
    (`link_or_copy`).
    """
    host = platform.node()
    for left in path.parent.glob(f"{glob.escape(path.name)}.{glob.escape(host)}-*.part"):
        process = left.name.removesuffix(".part").rpartition("-")[2]
        if process == str(os.getpid()) or not (process.isdigit() and psutil.pid_exists(int(process))):
            left.unlink(missing_ok=True)
    return path.with_name(f"{path.name}.{host}-{os.getpid()}.part")
