"""Memory that the C library keeps for the next step."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from xmr_e2e.allocation import keep_freed_memory

keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16_000_000)  # 64 MB, 15,625 pages; up to 32 MB, glibc keeps memory by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs a C library with mallopt, as glibc is")
@pytest.mark.parametrize(
    ("chosen", "least", "most"), [({}, 0, 10 * 15_625), ({"MALLOC_MMAP_MAX_": "65536"}, 20 * 15_000, 10**9)]
)
def test_tensors_take_the_memory_of_those_before_unless_someone_chose_otherwise(
    chosen: dict[str, str], least: int, most: int
) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=own | chosen, capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most
