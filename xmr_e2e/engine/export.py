"""A trained model as a folder of its own: weights in one file, and what it takes to build the networks for them."""

from __future__ import annotations

import shutil
from pathlib import Path

from xmr_e2e.engine.checkpoint import MODEL, open_checkpoint
from xmr_e2e.engine.run import Run
from xmr_e2e.engine.saved_model import load
from xmr_e2e.errors import XmrError


def export(run: Run, out: Path, checkpoint: str | None = None) -> list[str]:
    """Write `model.safetensors` and `model.json` to the folder `out`; return the names of the weights.

    Whatever the run was trained with, one process, DistributedDataParallel or any stage of ZeRO, the weights have the
    same names and shapes, in one file.

    Args:
        checkpoint: the name of one of the run's checkpoints; by default the epoch that was selected on validation.

    Raises:
        XmrError: no model yet, no such checkpoint or a damaged one, or `out` holds a model already.
    """
    if any((out / name).exists() for name in MODEL):
        raise XmrError(f"{out} holds a model already; choose another folder")
    model = load(run.folder)  # which also says whether it is whole
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        for name in MODEL:
            shutil.copyfile(run.folder / name, out / name)
        return list(model.method.state_dict())
    state = open_checkpoint(run.folder / "checkpoints" / checkpoint).weights()
    model.save(out, state, f"checkpoint {checkpoint}, not selected")
    return list(state)
