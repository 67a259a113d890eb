"""By what an epoch is chosen, and whether the data allow it."""

from __future__ import annotations

from pathlib import Path

import torch

from xmr_e2e.data.loader import Loader
from xmr_e2e.engine.embed import prepared
from xmr_e2e.engine.evaluate import SELECTABLE
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, Moment
from xmr_e2e.objectives.global_batch import gather
from xmr_e2e.shards.manifest import Manifest


@torch.no_grad()
def validation_loss(method: Method, loader: Loader, moment: Moment, device: torch.device) -> dict[str, float]:
    """The mean over the loader's samples of each loss term, and of their total under "loss". Called by every rank."""
    was_training = method.training
    method.eval()
    totals: dict[str, float] = {}
    for batch in loader.epoch():
        batch = batch.to(device)
        size = loader.batches.data.image_size
        representations = method.represent_batch(batch.with_inputs(prepared(batch.inputs, loader.batches, size)))
        samples = len(gather(batch.positions))
        for name, term in method.global_objective(representations, batch.labels, moment).items():
            totals[name] = totals.get(name, 0.0) + term.item() * samples / len(loader.batches)
    method.train(was_training)
    return {"loss": totals["total"]} | totals


def selection(epoch: int, select: str) -> str:
    """How an epoch was chosen, for whoever reads its figures."""
    if select == "last":
        return f"epoch {epoch + 1}, the last one"
    if select == "loss":
        return f"epoch {epoch + 1}, the one with the least loss on the validation split"
    return f"epoch {epoch + 1}, the best by {select} on the validation split (average of all directions)"


def check_splits(manifest: Manifest, folder: Path, select: str) -> None:
    """Raise XmrError, before hours are spent, for data on which this training or its evaluation cannot end well."""
    if "train" not in manifest.splits:
        raise XmrError(f"{folder} has no training split; it has {', '.join(manifest.splits)}")
    if select not in (*SELECTABLE, "last"):
        raise XmrError(f"--train.select {select!r} is none of {', '.join(SELECTABLE)}, last")
    if select != "last" and "val" not in manifest.splits:
        raise XmrError(
            f"{folder} has no validation split to select the epoch on; build the shards with one, "
            "or keep the last epoch with --train.select last"
        )
    for name, split in manifest.splits.items():
        if not sum(split.labels.values()):
            raise XmrError(
                f"{folder}: the samples of the split {name!r} have no labels, by which methods train and mAP counts; "
                "build the shards with a label table"
            )
