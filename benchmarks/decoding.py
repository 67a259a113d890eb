"""Decoding and nothing else, in processes that start quickly, since they import no more than that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from xmr_e2e.shards.media import check_decodes

_files: list[bytes] = []


def read(photographs: Sequence[Path]) -> None:
    """Hold the photographs' bytes in this process."""
    _files[:] = [path.read_bytes() for path in photographs]


def decode(numbers: Iterable[int]) -> None:
    """Decode these of the photographs, which come in turn, as the builder does."""
    for number in numbers:
        check_decodes(_files[number % len(_files)])
