"""The content of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmr_e2e.data.augment import PixelPreparation, prepare_evaluation, prepare_training

InputKind: TypeAlias = Literal["pixels", "tokens", "vector", "regions", "waveform", "frames", "points"]
"""What a modality's tower reads of a sample, and thus what `Batch.inputs` holds for it."""


class Tokens(NamedTuple):
    """Texts as token ids."""

    ids: Tensor
    """(n, t) int64, padded with 0"""
    lengths: Tensor
    """(n,) int64, each at least 1"""


class Regions(NamedTuple):
    """Pictures as r regions each."""

    features: Tensor
    """(n, r, d) float32"""
    boxes: Tensor
    """(n, r, 5) float32: x1, y1, x2, y2 as shares of the picture's width and height, and the box's share of its area"""
    classes: Tensor | None
    """(n, r) int64: the detector's class ids; None where they are not known of all pictures"""


class Waveforms(NamedTuple):
    """Sounds as w windows each, mono."""

    samples: Tensor
    """(n, w, t) float32 in [-1, 1], zero behind a window's own samples"""
    lengths: Tensor
    """(n, w) int64: samples of each window; 0 for windows that a short sound does not have, which come last"""
    masks: Tensor | None = None
    """(n, m, 4) float32: m rectangles of each sound's spectrogram that are hidden in training, as shares of its sides:
    first and last frequency, first and last time"""


class CachedFeatures(NamedTuple):
    """The output of a frozen tower, computed once for all epochs; stands in the place of its inputs."""

    output: Any
    """a tensor (n, d), or a named tuple of tensors, as the tower gives it"""
    first: Tensor | None = None
    """(n + 1,) int64: where each of n texts of its own are and not one, the row of each sample's first one, and the
    number of rows"""

    def rows(self, positions: NDArray[np.int64], chances: NDArray[np.float64] | None = None) -> CachedFeatures:
        """The features of the samples at these positions.

        Args:
            chances: (n,) in [0, 1), which of its texts each sample has, where it has some of its own.
        """
        chosen = torch.from_numpy(positions)
        if self.first is not None and chances is not None:
            start, end = self.first[chosen], self.first[chosen + 1]
            chosen = start + (torch.from_numpy(chances) * (end - start)).long()
        return CachedFeatures(map_tensors(self.output, lambda tensor: tensor[chosen]))


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
    """(n,) int64: the samples' positions in their split"""
    keys: tuple[str, ...]
    epoch: int = 0
    pixels: PixelPreparation | None = None
    """preparation of its pixels on the device; None where it has none as they come from the loader"""

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by torch's DataLoader where batches go to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def prepared(self) -> Batch:
        """With the pixels as networks see them in evaluation: the center crop, normalized; on the batch's device."""
        options = self.pixels
        return self if options is None else self._with_pixels(lambda images: prepare_evaluation(images, options.size))

    def augmented(self) -> Batch:
        """With the pixels as networks see them in training: augmented by seed, epoch and position, and normalized."""
        options = self.pixels
        if options is None:
            return self
        # A padding sample is augmented in any way.
        positions = self.positions if len(self) else self.positions.new_zeros(1)
        return self._with_pixels(
            lambda images: prepare_training(
                images, options.size, options.augment, seed=options.seed, epoch=self.epoch, positions=positions
            )
        )

    def _with_pixels(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The function on the inputs that are pixels as they come from the loader, the only ones of uint8."""
        inputs = {
            name: function(item) if isinstance(item, Tensor) and item.dtype == torch.uint8 else item
            for name, item in self.inputs.items()
        }
        return self.with_inputs(inputs)

    def with_inputs(self, inputs: dict[str, Any]) -> Batch:
        """The same samples, as something else to read."""
        return replace(self, inputs=inputs)

    def rows(self, numbers: Tensor) -> Batch:
        """The samples of these numbers, in this order; without a copy where they follow each other."""
        first, count = int(numbers[0]), len(numbers)
        if torch.equal(numbers, torch.arange(first, first + count)):
            return self._rows(slice(first, first + count))
        keys = tuple(self.keys[number] for number in numbers.tolist())
        return replace(self._map(lambda tensor: tensor[numbers.to(tensor.device)]), keys=keys)

    def _rows(self, rows: slice) -> Batch:
        return replace(self._map(lambda tensor: tensor[rows]), keys=self.keys[rows])

    def _map(self, function: Any) -> Batch:
        names = ("inputs", "labels", "positions")
        return replace(self, **{name: map_tensors(getattr(self, name), function) for name in names})


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same structure of tuples and dicts with the function applied to each tensor in it."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) is tuple:
        return tuple(map_tensors(item, function) for item in value)
    if isinstance(value, tuple):  # Tokens, Regions, CachedFeatures, Sequence
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, dict):
        return {name: map_tensors(item, function) for name, item in value.items()}
    return value


def multi_hot(labels: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Class ids of n samples to (n, classes) float32."""
    result = torch.zeros(len(labels), classes)
    for row, ids in enumerate(labels):
        result[row, list(ids)] = 1.0
    return result
