"""The content of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.data.inputs import map_tensors, on_device
from xmr_e2e.data.preparation import Preparation


@dataclass(frozen=True)
class Batch:
    """n samples, keyed by modality.

    Where a rank has no sample of a global batch, n is 0 and `inputs` hold one of its samples as padding: networks want
    something to run on, and every rank must take part in every step. What they make of it is thrown away.
    """

    inputs: dict[str, Any]
    """modality -> what its tower reads: "pixels", uint8 (n, 3, h, w), RGB, as it comes from the loader, and float,
    augmented and normalised, once it was prepared on the device; "tokens", `Tokens`; "vector", float32 (n, d);
    "regions", `Regions`; "waveform", `Waveforms`; "frames", uint8 (n, f, 3, h, w), RGB, and float once prepared;
    "points", float32 (n, p, 3). `CachedFeatures` where the tower is frozen and its output is already known."""
    labels: Tensor
    """(n, c) float32, multi-hot"""
    positions: Tensor
    """(n,) int64: the samples' positions in their split; on the host, which draws by them"""
    keys: tuple[str, ...]
    epoch: int = 0
    preparation: Preparation | None = None
    """what becomes of its inputs on the device; None where they are what networks see"""

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Batch:
        """Inputs and labels on a device."""
        moved = map_tensors((self.inputs, self.labels), lambda tensor: on_device(tensor, device))
        return replace(self, inputs=moved[0], labels=moved[1])

    def pin_memory(self) -> Batch:
        """Called by torch's DataLoader where batches go to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def prepared(self) -> Batch:
        """As networks see it in evaluation: of pixels the center crop, normalized; on the batch's device."""
        options = self.preparation
        if options is None:
            return self
        inputs = {name: options.for_evaluation(item) for name, item in self.inputs.items()}
        return replace(self, inputs=inputs, preparation=None)

    def augmented(self) -> Batch:
        """As networks see it in training: augmented by seed, epoch and position, and normalized."""
        options = self.preparation
        if options is None:
            return self
        # A padding sample is augmented in any way.
        positions = self.positions if len(self) else self.positions.new_zeros(1)
        inputs = {name: options.for_training(item, self.epoch, positions) for name, item in self.inputs.items()}
        return replace(self, inputs=inputs, preparation=None)

    def with_inputs(self, inputs: dict[str, Any]) -> Batch:
        """The same samples, as something else to read."""
        return replace(self, inputs=inputs)

    def rows(self, numbers: Tensor) -> Batch:
        """The samples of these numbers, in this order; without a copy where they follow each other."""
        first, count = int(numbers[0]), len(numbers)
        if torch.equal(numbers, torch.arange(first, first + count)):
            return self._rows(slice(first, first + count))
        keys = tuple(self.keys[number] for number in numbers.tolist())
        return replace(self._map(lambda tensor: tensor[on_device(numbers, tensor.device)]), keys=keys)

    def _rows(self, rows: slice) -> Batch:
        return replace(self._map(lambda tensor: tensor[rows]), keys=self.keys[rows])

    def _map(self, function: Any) -> Batch:
        names = ("inputs", "labels", "positions")
        return replace(self, **{name: map_tensors(getattr(self, name), function) for name in names})


def multi_hot(labels: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Class ids of n samples to (n, classes) float32."""
    result = torch.zeros(len(labels), classes)
    for row, ids in enumerate(labels):
        result[row, list(ids)] = 1.0
    return result
