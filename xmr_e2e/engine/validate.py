"""By what an epoch is chosen."""

from __future__ import annotations

import torch

from xmr_e2e.data.loader import Loader
from xmr_e2e.engine.embed import prepared
from xmr_e2e.methods.base import Method, Moment
from xmr_e2e.objectives.global_batch import gather


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
