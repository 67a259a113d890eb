"""A folder on a node's disk with copies of tars that lie elsewhere: each fetched once, all together bounded in bytes.

A copy is `<sha256>.tar`, so that datasets and their versions share the folder. While it grows it is `<sha256>.part`,
and the process that fetches it holds `<sha256>.lock`, which the kernel releases when the process dies. Files come and
go under `cache.lock`.

A copy is compared with its sha256 when it is fetched and not when it is read again. So nobody else may write into the
folder; and what is in it is opened only if it is a file of this user's, no link.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.shards.manifest import Shard

POLL_S = 0.1
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

Fill = Callable[[BinaryIO], None]
"""Writes a tar's content, all of it and no more, from the file's beginning."""


@dataclass(frozen=True)
class Cache:
    """Copies of tars in `folder`, at most `limit` bytes of them."""

    folder: Path
    limit: int

    def copy_of(self, shard: Shard) -> Path:
        """The path of the copy, if there is one."""
        return self.folder / f"{shard.sha256}.tar"

    def open(self, shard: Shard, fill: Fill) -> int:
        """The open copy of a tar (a file descriptor), made with `fill` where there is none.

        Of several processes that want the same copy at once, one makes it and the others wait. An open copy can be
        read to its end, even when it has been evicted meanwhile.

        Raises:
            XmrError: the tar is larger than the whole cache, or the folder cannot take it (a full disk, no permission).
                What `fill` raises is passed on.
        """
        if shard.bytes > self.limit:
            raise XmrError(
                f"{shard.name} has {shard.bytes:,} bytes, more than the cache {self.folder} may hold ({self.limit:,}): "
                "mount again with a larger --cache-gb"
            )
        try:
            file = self._open_copy(shard)
            if file is None:
                with FileLock(self.copy_of(shard).with_suffix(".lock")):
                    file = self._open_copy(shard)  # another process may have made it while this one waited
                    return self._make(shard, fill) if file is None else file
            return file
        except OSError as error:
            raise XmrError(
                f"{self.folder}: the cache cannot take {shard.name} ({shard.bytes:,} bytes): {_in_words(error)}; "
                "free some room, or mount again with another --cache or a smaller --cache-gb"
            ) from error

    def touch(self, shard: Shard) -> None:
        """Note that the copy is in use: what has not been used for longest is evicted first."""
        with suppress(FileNotFoundError):
            os.utime(self.copy_of(shard), follow_symlinks=False)

    def _open_copy(self, shard: Shard) -> int | None:
        try:
            file = _open_own(self.copy_of(shard))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return None  # a link, which the copy will replace
        status = os.fstat(file)
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE
        if not is_own or status.st_size != shard.bytes:  # put there or cut by somebody else: made again
            os.close(file)
            return None
        self.touch(shard)
        return file

    def _make(self, shard: Shard, fill: Fill) -> int:
        part = self.copy_of(shard).with_suffix(".part")
        while (stream := self._reserve(part, shard.bytes)) is None:
            time.sleep(POLL_S)
        try:
            with stream:
                fill(stream)
                stream.flush()
                os.fsync(stream.fileno())
            file = _open_own(part)  # before it can be evicted
            with self._lock():
                os.replace(part, self.copy_of(shard))
            return file
        finally:
            with self._lock():
                part.unlink(missing_ok=True)

    def _reserve(self, part: Path, size: int) -> BinaryIO | None:
        """Create `part` with its final size, after evicting what must go for it; None while other processes' downloads
        take the room."""
        with self._lock():
            part.unlink(missing_ok=True)  # of a process that was killed: this one holds its lock now
            growing = [path for path in self._files("part") if _is_growing(path)]
            room = self.limit - size - sum(path.lstat().st_size for path in growing)
            if room < 0:
                return None
            copies = [(path, path.lstat()) for path in self._files("tar")]
            total = sum(status.st_size for _, status in copies)
            for path, status in sorted(copies, key=lambda copy: copy[1].st_mtime_ns):
                if total <= room:
                    break
                path.unlink()
                total -= status.st_size
            stream = open(part, "x+b", opener=_open_private)  # noqa: SIM115  # a new file: where a link lies, it fails
            try:
                stream.truncate(size)
            except OSError:
                stream.close()
                raise
            return stream

    def _files(self, suffix: str) -> list[Path]:
        """This cache's own: a person may have chosen a folder in which other tars lie. No links, whatever they name."""
        found = self.folder.glob("[0-9a-f]" * 64 + f".{suffix}")
        return [path for path in found if stat.S_ISREG(path.lstat().st_mode)]

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "cache.lock")


def _is_growing(part: Path) -> bool:
    """True if a process is filling this file; if not, it is removed."""
    try:
        with FileLock(part.with_suffix(".lock"), timeout=0):
            part.unlink(missing_ok=True)
            return False
    except Timeout:
        return True


def make_folder(folder: Path, *, is_default: bool) -> None:
    """Make a cache's folder, or see that nobody else can write into it.

    Args:
        is_default: the user has not chosen it: it lies where anybody could have made it, and nobody else may read it.

    Raises:
        XmrError: it cannot be made, or is not the user's alone.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        link, status = folder.lstat(), folder.stat()
    except OSError as error:
        raise XmrError(f"{folder}: cannot be made: {error.strerror}; mount again with another --cache") from error
    is_own = status.st_uid == os.geteuid() and link.st_uid in (0, os.geteuid())
    if is_default and (stat.S_ISLNK(link.st_mode) or not is_own or status.st_mode & 0o077):
        raise XmrError(f"{folder} is not a folder of yours alone, with mode 0700; mount again with another --cache")
    if not is_own:
        raise XmrError(f"{folder} is not your folder: whoever it belongs to could change the tars; mount again with "
                       "another --cache, such as a folder of your own in it")  # fmt: skip
    if status.st_mode & _OTHERS_WRITE:
        raise XmrError(f"{folder}: others may write into it, and could change the tars: "
                       f"`{shell('chmod', 'go-w', folder)}`, or mount again with another --cache")  # fmt: skip


def _open_private(path: str, flags: int) -> int:
    """Open a file that nobody else may write to, whatever the umask is: another one would not be taken for a copy."""
    return os.open(path, flags, 0o600)


def _open_own(path: Path) -> int:
    """A file descriptor; fails where a link lies, and does not wait for who writes into a pipe."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _in_words(error: OSError) -> str | None:
    if error.errno == errno.ELOOP and error.filename is not None:
        return f"{os.fsdecode(error.filename)} is a link; remove it"
    return error.strerror
