"""Embeddings of a whole split, each sample exactly once, however many processes share the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from xmr_e2e.data.augment import prepare_evaluation
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.loader import Data, Loader, SplitBatches
from xmr_e2e.data.text import Vocabulary
from xmr_e2e.methods.base import Method
from xmr_e2e.objectives.global_batch import gather

BATCH = 128


@dataclass(frozen=True)
class EmbeddedSplit:
    """n samples in order of position, on every rank."""

    embeddings: dict[str, Tensor]
    """modality -> (n, d)"""
    labels: Tensor
    """(n, c) multi-hot"""
    keys: tuple[str, ...]


@torch.no_grad()
def embed_split(method: Method, data: Data, vocabulary: Vocabulary, split: str) -> EmbeddedSplit:
    """Embed a split with all ranks, in full precision. Called by every rank; every rank gets all of it.

    Raises:
        RuntimeError: a sample was embedded twice or not at all.
    """
    device = next(method.parameters()).device
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    batches = SplitBatches(data, split, vocabulary, seed=0)
    loader = Loader(batches, BATCH, rank, world_size, pin_memory=device.type == "cuda")
    was_training = method.training
    method.eval()
    rows = list(_embed_all(method, loader, data.image_size, device))
    method.train(was_training)
    positions, *columns = (gather(torch.cat(column)) for column in zip(*rows))
    order = positions.argsort()
    if not torch.equal(positions[order].cpu(), torch.arange(len(batches.reader))):
        raise RuntimeError(
            f"the split {split!r} has {len(batches.reader)} samples, of which not each was embedded once"
        )
    image, text, labels = (column[order] for column in columns)
    keys = tuple(batches.reader.key(position) for position in range(len(positions)))
    return EmbeddedSplit({"image": image, "text": text}, labels, keys)


def _embed_all(
    method: Method, loader: Loader, image_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for cpu_batch in loader.epoch():
        batch: Batch = cpu_batch.to(device)
        image = method.embed("image", prepare_evaluation(batch.inputs["image"], image_size))
        text = method.embed("text", batch.inputs["text"])
        yield batch.positions, image.float(), text.float(), batch.labels
