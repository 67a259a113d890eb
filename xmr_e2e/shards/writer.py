"""Writing one shard, byte for byte the same each time."""

from __future__ import annotations

import os
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
    import webdataset  # imports torch: seconds, which --help and Ctrl-C would wait for

    previous = ""
    path.unlink(missing_ok=True)  # "x": what was left there may be a link, and its target somebody's file
    with open(path, "xb") as stream:
        # Time and owner are fixed: the bytes depend on the samples alone.
        with webdataset.TarWriter(stream, encoder=False, user="xmr", group="xmr", mode=0o644, mtime=0) as tar:
            for key, members in samples:
                if key <= previous or "." in key or "/" in key:
                    raise XmrError(f"{path.name}: key {key!r} after {previous!r}: keys ascend and hold no dot or slash")
                tar.write({"__key__": key, **members})
                previous = key
        stream.flush()
        os.fsync(stream.fileno())
