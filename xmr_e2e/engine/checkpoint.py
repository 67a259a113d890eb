"""Checkpoints: a whole folder or none, the newest whole one found at resume."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

from xmr_e2e.files import write_atomically

KEPT = 2
_POSITION = "position.json"


@dataclass(frozen=True)
class Position:
    """How far a training has come."""

    epoch: int = 0
    step: int = 0
    """steps of this epoch that are done"""
    best: float | None = None
    """the validation figure of the epoch selected so far"""


def save_checkpoint(accelerator: Accelerator, folder: Path, position: Position) -> None:
    """Save model, optimiser and scaler, and where the training stands. Called by every rank."""
    target = folder / f"epoch-{position.epoch:04d}-step-{position.step:06d}"
    temporary = target.with_name(target.name + ".part")
    if accelerator.is_main_process:
        for unfinished in folder.glob("*.part"):
            shutil.rmtree(unfinished)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_atomically(temporary / _POSITION, json.dumps(asdict(position)).encode())
        _flush(temporary)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        for old in _whole(folder)[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_newest_checkpoint(accelerator: Accelerator, folder: Path) -> Position:
    """Restore the newest checkpoint into what was given to `accelerator.prepare`; the start where there is none."""
    whole = _whole(folder)
    if not whole:
        return Position()
    accelerator.load_state(str(whole[-1]))
    return Position(**json.loads((whole[-1] / _POSITION).read_bytes()))


def _whole(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first: a folder gets its final name last."""
    return sorted(path for path in folder.glob("epoch-*") if not path.name.endswith(".part"))


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
