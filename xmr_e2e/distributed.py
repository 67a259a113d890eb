"""The global batch: what every rank holds, gathered with gradient, so that objectives see all of it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and how many there are; 0 of 1 without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather(rows: Tensor) -> Tensor:
    """This rank's rows (n_r, ...) to those of all ranks in order of rank, (sum n_r, ...); ranks may hold different
    numbers.

    In the backward pass a rank receives the sum over all ranks of the gradients for its rows. Every rank computes the
    same loss on the same global batch and DistributedDataParallel averages the parameters' gradients over the ranks, so
    that N processes with batch B/N give the gradients of one process with batch B.
    """
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return rows
    if rows.dtype == torch.bool:  # gloo has no booleans
        return gather(rows.to(torch.uint8)).bool()
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(world_size)]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    return _Gather.apply(rows, [int(count) for count in counts])


def on_every_rank(here: bool, device: torch.device) -> bool:
    """True where it is true on every rank. Called by every rank, so that all go the same way.

    device: of the process group's tensors.
    """
    return bool(gather(torch.tensor([here], device=device)).all())


def share_buffers(module: nn.Module) -> None:
    """Give every rank the first one's buffers: each has running statistics of its own part of the batches, and only the
    first one's are saved."""
    _, world_size = rank_and_world_size()
    if world_size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        # Collectives want equal shapes: pad to the longest, and cut the padding off afterwards.
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.split(ctx.counts)[dist.get_rank()], None


def is_lost_connection(error: RuntimeError) -> bool:
    """True where a collective failed because another process is gone; gloo says so in words alone."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Application timeout")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
