"""Copies among files: those that hold the same bytes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from xmr_e2e.files import sha256_of

TAIL = 2**16
"""Bytes at the end of a file, in which most files of the same size differ."""

logger = logging.getLogger(__name__)


def find_copies(files: Iterable[Path]) -> list[list[Path]]:
    """Groups of two or more files with the same bytes. Files that cannot be read are copies of none."""
    groups = [list(dict.fromkeys(files))]
    for look in (_size, _tail, sha256_of):  # a whole file is read only where a cheaper look does not tell it apart
        groups = [part for group in groups for part in _parted(group, look)]
    return groups


def _parted(files: Iterable[Path], look: Callable[[Path], Hashable]) -> list[list[Path]]:
    parts: dict[Hashable, list[Path]] = {}
    for file in files:
        try:
            parts.setdefault(look(file), []).append(file)
        except OSError as error:
            logger.debug("%s is compared with no other: %s", file, error)  # the build says that it cannot be used
    return [part for part in parts.values() if len(part) > 1]


def _size(file: Path) -> int:
    size = file.stat().st_size
    if not size:
        raise OSError(f"{file} is empty")
    return size


def _tail(file: Path) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(max(0, file.stat().st_size - TAIL))
        return hashlib.sha256(stream.read()).digest()
