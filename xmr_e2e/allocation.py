"""Memory of the C library, which tensors on a CPU come from."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's numbers of its options (mallopt(3))"""
_OWN_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
"""variables by which whoever starts a process has chosen for himself"""


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors free, for the tensors of its next step.

    By itself, glibc asks the system for each tensor above 32 MB and gives it back at once; the system clears each of
    its pages again. On networks of many small layers that takes longer than their arithmetic (`python -m benchmarks
    kept`). The process then holds as much memory as it ever needed, as one on a GPU does. Without effect under another
    C library or allocator, and where the environment has MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_MAX_ or GLIBC_TUNABLES.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None or any(name in os.environ for name in _OWN_CHOICE):
        return
    set_option(_TRIM_THRESHOLD, -1)  # as a size, the largest: never
    set_option(_MMAP_MAX, 0)
