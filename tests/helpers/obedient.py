"""A decoder that does what the first line of a file says: what the worst files make of real ones."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xmr_e2e.search.decoding import Undecoded, decode_file

PATIENCE = 30


def obey(file: Undecoded) -> Any | None:
    """A `Decode`: "abort", "exit", "hang", "fill" and "fail" as they say, and "wait FOLDER" holds up a file behind it,
    which is decoded once FOLDER/go is there; when it begins to wait, FOLDER/begun is. Other files are decoded."""
    line, _, rest = file.content.partition(b"\n")
    order, _, folder = line.decode("latin-1").partition(" ")
    if order == "abort":
        os.abort()
    if order == "exit":
        os._exit(3)
    if order == "hang":
        time.sleep(600)
    if order == "fill":
        return len([np.ones(2**27) for _ in range(8)])  # 1 GB each
    if order == "fail":
        raise KeyError("a fault of this program")
    if order == "wait":
        return _wait(Path(folder), decode_file(replace(file, content=rest)))
    return decode_file(file)


def _wait(folder: Path, decoded: Any | None) -> Any | None:
    if decoded is not None:
        (folder / "begun").touch()
        wait_for(folder / "go")
    return decoded


def wait_for(path: Path) -> None:
    """Until there is such a file."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.01)
