"""The pieces in which a rank sends its part of a batch through the networks: so many, or as many as a budget asks for.

Samples of like lengths share a piece, whose padding ends with its own longest text: one long text then fills a piece of
its own, and does not decide the memory of all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.distributed import on_every_rank


@dataclass(frozen=True)
class MicroBatches:
    """The bounds of a micro-batch."""

    count: int = 1
    """micro-batches of nearly equal size; where there is no budget"""
    pixels: int | None = None
    """most pixels, images (or frames) x height x width as the networks see them"""
    tokens: int | None = None
    """most tokens, texts x the longest one"""

    @property
    def has_budget(self) -> bool:
        return self.pixels is not None or self.tokens is not None

    def split(self, batch: Batch) -> list[Tensor]:
        """The samples of each micro-batch of a batch on the host, as their numbers in the batch; each sample is in one.

        A sample that is above a budget is a micro-batch alone. With a budget of tokens, samples are in order of the
        lengths of their texts; otherwise in that of the batch.
        """
        samples = len(batch)
        sizes = _pixels(batch)
        most = samples if self.pixels is None or not sizes else max(1, self.pixels // sizes)
        lengths = _lengths(batch) if self.tokens is not None else None
        if lengths is None:
            count = min(math.ceil(samples / most) if self.has_budget else self.count, max(1, samples))
            return [*torch.arange(samples).tensor_split([samples * part // count for part in range(1, count)])]
        assert self.tokens is not None
        order = torch.tensor(lengths).argsort(stable=True)
        groups: list[list[int]] = [[]]
        for number in order.tolist():
            rows = len(groups[-1]) + 1
            if groups[-1] and (rows > most or rows * lengths[number] > self.tokens):
                groups.append([])
            groups[-1].append(number)
        return [torch.tensor(group) for group in groups]

    def of(self, batch: Batch, moved: Batch | None = None) -> list[tuple[Tensor, Batch]]:
        """The samples of each micro-batch of a batch on the host, and itself; a batch without samples, which has a
        padding sample, as one.

        Args:
            moved: the same batch on the device, whose parts are given then.
        """
        moved = moved or batch
        if not len(batch):
            return [(torch.arange(0), moved)]
        parts = [rows for rows in self.split(batch) if len(rows)]
        if self.tokens is None:
            return [(rows, moved.rows(rows)) for rows in parts]
        return [(rows, _cut_padding(moved.rows(rows), _longest(batch, rows))) for rows in parts]


def is_one_everywhere(parts: Sequence[Any]) -> bool:
    """True where no rank has more micro-batches than one. All ranks have to go the same way: there is communication in
    each."""
    return on_every_rank(len(parts) == 1)


def _pixels(batch: Batch) -> int:
    """Of one sample, over all modalities; 0 where it has none."""
    images = [item for item in batch.inputs.values() if isinstance(item, Tensor) and item.dim() in (4, 5)]
    # As they come from the loader, they are larger than networks see them.
    sides = [batch.preparation.side_of(item) if batch.preparation else item.shape[-1] for item in images]
    frames = [math.prod(item.shape[1:-3]) for item in images]
    return sum(count * side**2 for count, side in zip(frames, sides))


def _lengths(batch: Batch) -> list[int] | None:
    """Of each sample's texts together; None where the batch has none."""
    lengths = [item.lengths for item in batch.inputs.values() if isinstance(item, Tokens)]
    return torch.stack(lengths).sum(0).tolist() if lengths else None


def _longest(batch: Batch, rows: Tensor) -> dict[str, int]:
    """By modality, the length of the longest of these texts of a batch on the host."""
    texts = {name: item for name, item in batch.inputs.items() if isinstance(item, Tokens)}
    return {name: int(item.lengths[rows].max()) for name, item in texts.items()}


def _cut_padding(batch: Batch, longest: Mapping[str, int]) -> Batch:
    cut = {name: Tokens(batch.inputs[name].ids[:, :most], batch.inputs[name].lengths) for name, most in longest.items()}
    return replace(batch, inputs=batch.inputs | cut)
