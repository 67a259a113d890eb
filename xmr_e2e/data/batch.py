"""What a batch is made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """Texts as token ids."""

    ids: Tensor
    """(n, t) int64, padded with 0"""
    lengths: Tensor
    """(n,) int64, each at least 1"""


@dataclass(frozen=True)
class Batch:
    """n samples, keyed by modality.

    `inputs["image"]` is uint8 (n, 3, h, w), RGB, as it comes from the loader, and float, augmented and normalised,
    once it was prepared on the device. `inputs["text"]` is `Tokens`.
    """

    inputs: dict[str, Any]
    labels: Tensor
    """(n, c) float32, multi-hot"""
    positions: Tensor
    """(n,) int64: the samples' positions in their split"""
    keys: tuple[str, ...]
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by torch's DataLoader where batches go to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def pieces(self, count: int) -> list[Batch]:
        """The batch in `count` parts of nearly equal size, in order; fewer where there are fewer samples."""
        count = min(count, len(self))
        bounds = [len(self) * part // count for part in range(count + 1)]
        return [self._rows(slice(a, b)) for a, b in itertools.pairwise(bounds)]

    def _rows(self, rows: slice) -> Batch:
        return replace(self._map(lambda tensor: tensor[rows]), keys=self.keys[rows])

    def _map(self, function: Any) -> Batch:
        changes = {f.name: _map_tensors(getattr(self, f.name), function) for f in fields(self) if f.name != "keys"}
        return replace(self, **changes)


def _map_tensors(value: Any, function: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Tokens):
        return Tokens(*(function(tensor) for tensor in value))
    if isinstance(value, dict):
        return {name: _map_tensors(item, function) for name, item in value.items()}
    return value


def multi_hot(labels: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Class ids of n samples to (n, classes) float32."""
    result = torch.zeros(len(labels), classes)
    for row, ids in enumerate(labels):
        result[row, list(ids)] = 1.0
    return result
