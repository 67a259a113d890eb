"""Writing one shard, byte for byte the same each time."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.files import naming


def write_shard(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write samples, each a key and its members (extension -> bytes), to a new tar.

    Raises:
        XmrError: keys that do not ascend, or that hold a dot or a slash.
        OSError: it cannot be written, as on a full disk; has the file's name. Nothing of it is left.
    """
    try:
        with naming(path):
            _write(path, samples)
    except OSError:
        with suppress(OSError):  # which would hide what went wrong
            path.unlink(missing_ok=True)
        raise


def _write(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    previous = ""
    path.unlink(missing_ok=True)  # "x": what was left there may be a link, and its target somebody's file
    with open(path, "xb") as stream:
        # As webdataset's TarWriter does, which imports torch: seconds and 200 MB of each process that builds.
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                if key <= previous or "." in key or "/" in key:
                    raise XmrError(f"{path.name}: key {key!r} after {previous!r}: keys ascend and hold no dot or slash")
                for extension in sorted(members):
                    tar.addfile(_member(f"{key}.{extension}", members[extension]), io.BytesIO(members[extension]))
                previous = key
        stream.flush()
        os.fsync(stream.fileno())


def _member(name: str, data: bytes) -> tarfile.TarInfo:
    """With a fixed time and owner: a shard's bytes depend on the samples alone."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime, member.uname, member.gname = len(data), 0o644, 0, "xmr", "xmr"
    return member
