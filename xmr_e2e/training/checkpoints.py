"""Checkpoints: a whole folder or none, and at resume the newest one that is undamaged."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from threading import Thread
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from xmr_e2e.distributed import is_lost_connection
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.files import crc32_of, fsync_file, link_or_copy, write_atomically
from xmr_e2e.models.weights import read_weights, require_whole, separated, shapes_of
from xmr_e2e.received import own_path
from xmr_e2e.runs.checkpoint import (
    _METADATA,
    BEST,
    MODEL,
    WEIGHTS,
    Checkpoint,
    TrainingProgress,
    _weights_in,
    open_checkpoint,
)

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a run. `save`, `find` and `load` are called by every rank.

    Args:
        model: what is trained, as a plain module, before it is prepared.
        kept: how many there are at a time.
        zero: DeepSpeed's ZeRO stage; 0 is DistributedDataParallel, or one process.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, run: Path, kept: int, zero: int = 0) -> None:
        self._accelerator = accelerator
        self._model = model
        self._shapes = shapes_of(model)
        self._run = run
        self._folder = run / "checkpoints"
        self._kept = kept
        self._zero = zero
        self._removal: Thread | None = None
        accelerator.register_save_state_pre_hook(self._save_weights)
        if not zero:
            accelerator.register_load_state_pre_hook(self._load_weights)

    def save(self, progress: TrainingProgress) -> None:
        """Save model, optimiser and scaler, where the training stands, and the epoch's model that was kept.

        The folder gets its name last: it is whole or not there. Older ones than the last few are removed.

        Raises:
            XmrError: it cannot be written, as on a full disk; what was begun is removed.
        """
        name = f"stage-{progress.stage:02d}-epoch-{progress.epoch:04d}-step-{progress.step:06d}"
        temporary = self._folder / f"{name}.part"
        if self._accelerator.is_main_process:
            self.close()
            for unfinished in self._folder.glob("*.part"):
                shutil.rmtree(unfinished)
        self._accelerator.wait_for_everyone()
        try:
            self._accelerator.save_state(str(temporary))
            self._accelerator.wait_for_everyone()
            if self._accelerator.is_main_process:
                self._finalize(temporary, progress)
                shutil.rmtree(self._folder / name, ignore_errors=True)
                os.replace(temporary, self._folder / name)
                # Those of a later position were damaged, or the training would stand there.
                past = [folder for folder in self._all() if folder.name <= name]
                self._remove([folder for folder in self._all() if folder not in past[-self._kept :]])
        except (OSError, RuntimeError, SafetensorError) as error:  # torch says RuntimeError where a disk is full
            if self._accelerator.is_main_process:  # others may fail first, while it still writes
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, RuntimeError) and is_lost_connection(error):
                raise  # whose fault it is, the watch can say
            whole = self._all()
            raise XmrError(
                f"{self._folder / name}: the checkpoint cannot be written: {_cause(error)}. Mend that and go on with "
                f"{shell('--train.resume', self._run)} " + (f"from {whole[-1].name}" if whole else "from the start")
            ) from error
        self._accelerator.wait_for_everyone()

    def find(self) -> Checkpoint | None:
        """The newest undamaged checkpoint, the same on every rank; what is damaged is said and passed over."""
        found = self._newest() if self._accelerator.is_main_process else None
        found = broadcast_object_list([found])[0]
        self._accelerator.wait_for_everyone()
        return found

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore its state into what was given to `accelerator.prepare`.

        Raises:
            XmrError: a file holds more than tensors and plain values, which could be a program; or it is none of this
                training's.
        """
        try:
            self._accelerator.load_state(str(checkpoint.folder))
        except UnpicklingError as error:
            raise XmrError(
                f"{checkpoint.folder}: the checkpoint holds more than tensors and plain values, which no training of "
                "ours writes, and is not read; if you do not know where it comes from, remove the run"
            ) from error
        except Exception as error:  # whatever libraries say of files that are others than theirs
            lost = isinstance(error, RuntimeError) and is_lost_connection(error)
            if lost or isinstance(error, XmrError | torch.OutOfMemoryError):
                raise
            raise XmrError(
                f"{checkpoint.folder}: the checkpoint cannot be gone on with ({type(error).__name__}: {error}): its "
                "files are damaged, or another training's. Without its folder, the training goes on from an earlier one"
            ) from error

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """All that can be had of a checkpoint of another kind of training; what cannot is said."""
        if self._accelerator.is_main_process:
            logger.warning(
                "%s was saved by %d process(es) with --train.zero %d: weights and progress go on, BUT THE OPTIMIZER'S "
                "STATE IS RESET (its momentum is lost). For an exact continuation start it in that way again",
                checkpoint.folder, checkpoint.world_size, checkpoint.zero,
            )  # fmt: skip
        checkpoint.load_weights(self._model)

    def close(self) -> None:
        """Wait for older checkpoints to be gone."""
        if self._removal:
            self._removal.join()

    def _newest(self) -> Checkpoint | None:
        for folder in reversed(self._all()):
            try:
                found = open_checkpoint(folder)
            except XmrError as error:
                logger.warning("%s: passed over", error)
                continue
            # The epoch kept so far may be of a later moment, or of a run that was copied in parts.
            for name in MODEL:
                if (kept := own_path(folder, f"{BEST}/{name}")).exists():
                    link_or_copy(kept, self._run / name)
            return found
        return None

    def _all(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self._folder.glob("stage-*") if path.suffix != ".part")

    def _remove(self, folders: Sequence[Path]) -> None:
        """Beside the training, since gigabytes take seconds; first of all they lose the names of whole ones."""
        unnamed = [folder.with_name(f"{folder.name}.part") for folder in folders]
        for folder, target in zip(folders, unnamed):
            os.replace(folder, target)
        self._removal = Thread(target=_remove_all, args=[unnamed])
        self._removal.start()

    def _save_weights(self, models: list[nn.Module], weights: list[Any], folder: str) -> None:
        """In place of Accelerate's file, which would lack weights (`engine.weights`); beside DeepSpeed's, which are
        parts of the parameters, one for each process."""
        weights.clear()
        for model in models:  # none once the training is over
            state = self._accelerator.get_state_dict(model) if self._zero else self._model.state_dict()
            if self._accelerator.is_main_process:
                path = Path(folder) / WEIGHTS
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file(separated(state), path)
                with open(path, "rb") as stream:
                    require_whole(stream, self._shapes, path)

    def _load_weights(self, models: list[nn.Module], folder: str) -> None:
        path = _weights_in(Path(folder))
        if path is None:
            return
        try:
            self._model.load_state_dict(read_weights(path))
        except RuntimeError as error:
            raise XmrError(
                f"{path} has not all weights of this training: {str(error).splitlines()[-1].strip()} Earlier versions "
                "lost those of LSTM and GRU on CUDA; the run cannot go on, start it again under another name"
            ) from error
        models.clear()  # nothing is left for Accelerate to load

    def _finalize(self, folder: Path, progress: TrainingProgress) -> None:
        """Add the model kept so far, bring everything to the disk, and write down what belongs to it."""
        (folder / BEST).mkdir()
        for name in MODEL:
            if (self._run / name).exists():
                link_or_copy(self._run / name, folder / BEST / name)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor(1) as disk:  # which writes while the checksums are computed
            written = disk.map(fsync_file, files)
            # Against damage, not against forgery: sha256 took two thirds of the time that the training stands still.
            sums = {str(path.relative_to(folder)): crc32_of(path) for path in files}
            list(written)  # raises what went wrong
        kind = {"zero": self._zero, "world_size": self._accelerator.num_processes}
        document: dict[str, Any] = {"progress": asdict(progress), **kind, "crc32": sums}
        write_atomically(folder / _METADATA, json.dumps(document, indent=1).encode())


def first_progress(found: Checkpoint | None, run: Path, stages: int) -> TrainingProgress:
    """The progress of the checkpoint from which a training of so many stages goes on; the very beginning without one.

    Raises:
        XmrError: it is another training's.
    """
    if found is None:
        return TrainingProgress()
    if found.progress.stage > stages:
        raise XmrError(
            f"{run}: its checkpoint stands in stage {found.progress.stage + 1} of {stages}: it is another training's"
        )
    return found.progress


def _remove_all(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # what is left is removed at the next checkpoint


def _cause(error: Exception) -> str:
    words = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
    return f"{words} (is the disk full?)" if isinstance(error, RuntimeError) else words
