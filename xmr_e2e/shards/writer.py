"""Writing one shard, byte for byte the same each time."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from xmr_e2e.errors import XmrError
from xmr_e2e.files import naming

OWNER, MODE = "xmr", 0o644
"""of all members: like their time, 0, it does not depend on who builds"""


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> str:
    """Write samples, each a key and its members (extension -> bytes), to a new tar; return the tar's sha256.

    Raises:
        XmrError: keys that do not ascend, or that hold a dot or a slash.
        OSError: it cannot be written, as on a full disk; has the file's name. Nothing of it is left.
    """
    try:
        with naming(path):
            return _write(path, samples)
    except OSError:
        with suppress(OSError):  # which would hide what went wrong
            path.unlink(missing_ok=True)
        raise


def _write(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> str:
    previous = ""
    path.unlink(missing_ok=True)  # "x": what was left there may be a link, and its target somebody's file
    with open(path, "xb") as stream:
        tar = _Tar(stream)
        for key, members in samples:
            if key <= previous or "." in key or "/" in key:
                raise XmrError(f"{path.name}: key {key!r} after {previous!r}: keys ascend and hold no dot or slash")
            for extension in sorted(members):
                tar.add(f"{key}.{extension}", members[extension])
            previous = key
        tar.end()
        stream.flush()
        os.fsync(stream.fileno())
    return tar.sha256.hexdigest()


class _Tar:
    """A tar that is written member by member, as WebDataset's own writer does it: that one imports torch, for which
    each process that builds would wait, and copies everything in pieces of a few thousand bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self._stream, self._size = stream, 0

    def add(self, name: str, content: bytes) -> None:
        self._put(_header(name, len(content)))
        self._put(content)
        self._put(bytes(-len(content) % tarfile.BLOCKSIZE))

    def end(self) -> None:
        """The end mark, and zeros up to a whole record."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._put(bytes(-self._size % tarfile.RECORDSIZE))

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self.sha256.update(data)
        self._size += len(data)


def _tarfiles_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, MODE, 0
    member.uname = member.gname = OWNER
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


_PLAIN = _tarfiles_header("", 0)


def _header(name: str, size: int) -> bytes:
    """The header of a member as tarfile makes it, which takes ten times as long: of one that needs no more than a
    block, only name, size and sum differ from another's."""
    if not name.isascii() or len(name) > tarfile.LENGTH_NAME or size >= 8**11:
        return _tarfiles_header(name, size)
    named = name.encode().ljust(tarfile.LENGTH_NAME, b"\0") + _PLAIN[100:124] + b"%011o\0" % size + _PLAIN[136:148]
    total = sum(named) + sum(_PLAIN[156:]) + 8 * ord(" ")  # its own place counts as spaces
    return named + b"%06o\0 " % total + _PLAIN[156:]
