"""Writing one shard, byte for byte the same each time."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.files import naming


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
    path.unlink(missing_ok=True)
    with _Hashed(path) as file:
        # As WebDataset's own writer has it, which imports torch: each process that builds would wait for that.
        with tarfile.open(fileobj=file, mode="w") as tar:
            for key, members in samples:
                if key <= previous or "." in key or "/" in key:
                    raise XmrError(f"{path.name}: key {key!r} after {previous!r}: keys ascend and hold no dot or slash")
                for extension in sorted(members):
                    tar.addfile(_member(f"{key}.{extension}", members[extension]), io.BytesIO(members[extension]))
                previous = key
        file.flush()
        os.fsync(file.fileno())
    return file.sha256.hexdigest()


def _member(name: str, content: bytes) -> tarfile.TarInfo:
    """Time and owner are fixed: the bytes depend on the samples alone."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o644, 0
    member.uname = member.gname = "xmr"
    return member


class _Hashed(io.BufferedWriter):
    """A new file that knows the sha256 of what was written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x"))  # not over what is there: a link's target is somebody's file
        self.sha256 = hashlib.sha256()

    def write(self, data: Any, /) -> int:
        self.sha256.update(data)
        return super().write(data)
