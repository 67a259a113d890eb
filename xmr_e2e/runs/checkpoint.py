"""A checkpoint of a run, as a folder of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field
from torch import nn

from xmr_e2e.bounds import MOST
from xmr_e2e.errors import XmrError
from xmr_e2e.files import crc32_of
from xmr_e2e.models.weights import read_weights
from xmr_e2e.received import check_name, inside, own_path, parse, read_bytes

MODEL = ("model.safetensors", "model.json")
"""the files of a run folder that hold the epoch kept so far"""
BEST = "kept"
"""the folder of a checkpoint that has them as they were then"""
WEIGHTS = "weights.safetensors"
"""of the training, all in one file; the checkpoints of earlier versions have it only from ZeRO"""
_EARLIER = "model.safetensors"
_METADATA = "checkpoint.json"

Done = Annotated[int, Field(ge=0, le=MOST)]


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training."""

    stage: Done = 0
    """stages that are done"""
    epoch: Done = 0
    """epochs of this stage that are done"""
    step: Done = 0
    """steps of this epoch that are done"""
    best: float | None = None
    """score of the epoch kept so far, the best of this stage: a validation figure, or minus the validation loss"""
    skipped: Done = 0
    """steps that moved nothing, because a loss or gradient was not finite"""


@dataclass(frozen=True)
class _Metadata:
    """The content of a checkpoint's seal, the last file that is written."""

    progress: Annotated[TrainingProgress, Field(validation_alias=AliasChoices("progress", "position"))]
    """in files of earlier versions under the second name"""
    zero: Annotated[int, Field(ge=0, le=3)]
    world_size: Annotated[int, Field(ge=1, le=MOST)]
    crc32: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds the state of a training."""

    folder: Path
    progress: TrainingProgress
    zero: int
    """the ZeRO stage with which it was saved"""
    world_size: int

    def load_weights(self, method: nn.Module) -> None:
        """Give a plain module the parameters and buffers of the method.

        Raises:
            XmrError: there are none, since the training was over; or they are of another method.
        """
        path = _weights_in(self.folder)
        if path is None:
            raise XmrError(f"{self.folder}: the training was over, and its selected epoch's model is what there is")
        try:
            method.load_state_dict(read_weights(path))
        except RuntimeError as error:
            raise XmrError(
                f"{path} has not the weights of this method: {str(error).splitlines()[-1].strip()}"
            ) from error

    def fits(self, zero: int, world_size: int) -> bool:
        """True if a training of this kind can load its whole state; if not, weights and position can be had from it."""
        return self.zero == zero and (not zero or self.world_size == world_size)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's metadata and verify its files.

    Raises:
        XmrError: it is missing, unfinished or damaged.
    """
    try:
        sealed = parse(_Metadata, read_bytes(folder / _METADATA), _METADATA)
        for name, expected in sealed.crc32.items():
            if crc32_of(_own_file(folder, name)) != expected:
                raise XmrError(f"{name} is not what was written (its checksum differs)")
    except (OSError, XmrError) as error:
        raise XmrError(f"{folder} is no whole checkpoint: {error}") from error
    return Checkpoint(folder, sealed.progress, sealed.zero, sealed.world_size)


def _own_file(folder: Path, name: str) -> Path:
    """A file of a checkpoint, which has them in folders, too."""
    *folders, last = name.split("/")
    for part in folders:
        folder = own_path(folder, check_name(part, _METADATA))
    return inside(folder, last)


def _weights_in(folder: Path) -> Path | None:
    return next((path for path in (folder / WEIGHTS, folder / _EARLIER) if path.exists()), None)
