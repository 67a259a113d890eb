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

    stage: int = 0
    """stages that are done"""
    epoch: int = 0
    """epochs of this stage that are done"""
    step: int = 0
    """steps of this epoch that are done"""
    best: float | None = None
    """by what the epoch kept so far was the best of this stage: a validation figure, or minus the validation loss"""


def save_checkpoint(accelerator: Accelerator, folder: Path, position: Position) -> None:
    """Save model, optimiser and scaler, and where the training stands. Called by every rank."""
    target = folder / f"stage-{position.stage}-epoch-{position.epoch:04d}-step-{position.step:06d}"
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


def newest_position(folder: Path) -> Position:
    """Where the newest checkpoint stands; the start where there is none."""
    whole = _whole(folder)
    return Position(**json.loads((whole[-1] / _POSITION).read_bytes())) if whole else Position()


def load_newest_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Restore the newest checkpoint, if there is one, into what was given to `accelerator.prepare`."""
    whole = _whole(folder)
    if whole:
        accelerator.load_state(str(whole[-1]))


def _whole(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first: a folder gets its final name last."""
    return sorted(path for path in folder.glob("stage-*") if not path.name.endswith(".part"))


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
