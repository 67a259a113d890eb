"""The inputs of towers: what a batch holds for each modality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

InputKind: TypeAlias = Literal["pixels", "tokens", "vector", "regions", "waveform", "frames", "points"]
"""The part of a sample that a modality's tower reads, and thus that `Batch.inputs` holds for it."""


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


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, as it will be when the device comes to read it: the host does not wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # from elsewhere a copy would be waited for
    return tensor.to(device, non_blocking=True)


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
