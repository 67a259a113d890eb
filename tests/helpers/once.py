"""Objects that take a minute to make, made once for all processes of a test run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

WHOLE = "whole"
"""the file of a folder that says that all of it is there"""


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name, which is filled by the first process to ask for it; the others wait."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each of whose processes has a folder of its own in that of the run
        shared = shared.parent
    folder = shared / name
    with FileLock(f"{folder}.lock"):
        if not (folder / WHOLE).exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / WHOLE).touch()
    return folder
