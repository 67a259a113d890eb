"""The global batch: what every rank holds, gathered with gradient, so that objectives see all of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Number = TypeVar("Number", int, float)
_HOSTS: dict[Any, Any] = {}
"""all processes over gloo, by torch's own group of them, where that is NCCL's"""


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank, and how many there are; 0 of 1 without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather(rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """This rank's rows (n_r, ...) to those of all ranks in order of rank, (sum n_r, ...); ranks may hold different
    numbers.

    In the backward pass a rank receives the sum over all ranks of the gradients for its rows. Every rank computes the
    same loss on the same global batch and DistributedDataParallel averages the parameters' gradients over the ranks, so
    that N processes with batch B/N give the gradients of one process with batch B.

    Args:
        counts: rows of each rank, as `numbers_of_ranks` gives them; asked for where they are not given.
    """
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return rows
    if rows.dtype == torch.bool:  # gloo has no booleans
        return gather(rows.to(torch.uint8), counts).bool()
    return _Gather.apply(rows, list(counts or numbers_of_ranks(len(rows))))


def numbers_of_ranks(number: Number) -> list[Number]:
    """A number of each rank, such as that of its rows, in order of rank. The processes wait for each other, and not
    for their devices."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return [number]
    own = torch.tensor([number], dtype=torch.float64 if isinstance(number, float) else torch.int64)
    parts = [torch.empty_like(own) for _ in range(world_size)]
    dist.all_gather(parts, own, group=_group_of(own.device))
    return torch.cat(parts).tolist()


def on_every_rank(here: bool) -> bool:
    """True where it is true on every rank. Called by every rank, so that all go the same way."""
    return all(numbers_of_ranks(int(here)))


def of_first_rank(number: float) -> float:
    """The first rank's number, so that what follows from it is the same on all."""
    return numbers_of_ranks(number)[0]


def _group_of(device: torch.device) -> Any:
    """The processes as a group that sends tensors of this device; None is torch's own, with gloo or NCCL."""
    if device.type != "cpu" or "gloo" in dist.get_backend():
        return None
    if dist.group.WORLD not in _HOSTS:
        meet_over_hosts()  # asked for by all at once
    return _HOSTS[dist.group.WORLD]


def meet_over_hosts(timeout: timedelta | None = None) -> None:
    """Let the processes talk over gloo beside NCCL, whose tensors are on GPUs. Called by every rank, once.

    Args:
        timeout: of each word; torch's own where there is none.
    """
    world = dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
    if world is not None and "gloo" not in dist.get_backend():
        _HOSTS[world] = dist.new_group(backend="gloo", timeout=timeout)


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
        dist.all_gather(parts, padded, group=_group_of(rows.device))
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient, group=_group_of(gradient.device))
        return gradient.split(ctx.counts)[dist.get_rank()], None


def is_lost_connection(error: RuntimeError) -> bool:
    """True where a collective failed because another process is gone; gloo says so in words alone."""
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Application timeout")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
