"""A folder on a node's disk with copies of tars that lie elsewhere: each fetched once, all together bounded in bytes.

A copy is `<sha256>.tar`, so that datasets and their versions share the folder. While it grows it is `<sha256>.part`,
and the process that fetches it holds `<sha256>.lock`, which the kernel releases when the process dies. Files come and
go under `cache.lock`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import Shard

POLL_S = 0.1

Fill = Callable[[BinaryIO], None]
"""Writes a tar's content, all of it and no more, from the file's beginning."""


@dataclass(frozen=True)
class Cache:
    """Copies of tars in `folder`, at most `limit` bytes of them."""

    folder: Path
    limit: int

    def copy_of(self, shard: Shard) -> Path:
        """Where the copy lies, if there is one."""
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
                f"{self.folder}: the cache cannot take {shard.name} ({shard.bytes:,} bytes): {error.strerror}; "
                "free some room, or mount again with another --cache or a smaller --cache-gb"
            ) from error

    def touch(self, shard: Shard) -> None:
        """Note that the copy is in use: what has not been used for longest is evicted first."""
        with suppress(FileNotFoundError):
            os.utime(self.copy_of(shard))

    def _open_copy(self, shard: Shard) -> int | None:
        try:
            file = os.open(self.copy_of(shard), os.O_RDONLY)
        except FileNotFoundError:
            return None
        if os.fstat(file).st_size != shard.bytes:  # cut by somebody else: made anew
            os.close(file)
            return None
        self.touch(shard)
        return file

    def _make(self, shard: Shard, fill: Fill) -> int:
        part = self.copy_of(shard).with_suffix(".part")
        while not self._reserve(part, shard.bytes):
            time.sleep(POLL_S)
        try:
            with open(part, "r+b") as stream:
                fill(stream)
                stream.flush()
                os.fsync(stream.fileno())
            file = os.open(part, os.O_RDONLY)  # before it can be evicted
            with self._lock():
                os.replace(part, self.copy_of(shard))
            return file
        finally:
            with self._lock():
                part.unlink(missing_ok=True)

    def _reserve(self, part: Path, size: int) -> bool:
        """Create `part` with its final size, after evicting what must go for it; False while other processes' downloads
        take the room."""
        with self._lock():
            part.unlink(missing_ok=True)  # of a process that was killed: this one holds its lock now
            growing = [path for path in self._files("part") if _is_growing(path)]
            room = self.limit - size - sum(path.stat().st_size for path in growing)
            if room < 0:
                return False
            copies = [(path, path.stat()) for path in self._files("tar")]
            total = sum(stat.st_size for _, stat in copies)
            for path, stat in sorted(copies, key=lambda copy: copy[1].st_mtime_ns):
                if total <= room:
                    break
                path.unlink()
                total -= stat.st_size
            with open(part, "xb") as stream:
                stream.truncate(size)
            return True

    def _files(self, suffix: str) -> list[Path]:
        """This cache's own: a person may have chosen a folder in which other tars lie."""
        return list(self.folder.glob("[0-9a-f]" * 64 + f".{suffix}"))

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "cache.lock")


def _is_growing(part: Path) -> bool:
    """Whether a process is filling this file; if not, it is removed."""
    try:
        with FileLock(part.with_suffix(".lock"), timeout=0):
            part.unlink(missing_ok=True)
            return False
    except Timeout:
        return True
