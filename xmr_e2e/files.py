"""Files that are whole or not there, their checksums, and what is said where one cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK = 2**22
_GOES_ON = "make room, and the same command goes on"
_REASONS = {
    errno.ENOSPC: f"the disk is full; {_GOES_ON}",
    errno.EDQUOT: f"the disk quota is used up; {_GOES_ON}",
    errno.EROFS: "the disk is mounted read-only",
}
"""In words that help more than the system's."""


def describe_os_error(error: OSError) -> str:
    """File, as far as it is known, and reason in one line."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Where writing this file fails meanwhile, its name is put into the OSError: of a full disk, Python does not say
    which file it was."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part of it.

    Raises:
        OSError: it cannot be written; has the file's name.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process; it may be a second name of a file in use (place_copy)
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # which would hide what went wrong
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def bring_to_disk(path: Path) -> None:
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


def place_copy(source: Path, target: Path) -> None:
    """Make `target` hold what `source` holds, at once or not at all: a second name for it where the file system can.

    Only for files that are replaced and never written into (`write_atomically`).
    """
    temporary = target.with_name(target.name + ".part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # rename leaves it there where target was the same file already
