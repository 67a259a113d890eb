"""Random numbers of samples as tensors, on the device that augments them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xmr_e2e.data.inputs import on_device
from xmr_e2e.data.randomness import uniform


def uniform_rows(count: int, first: int, *, seed: int, epoch: int, positions: Tensor, like: Tensor) -> Tensor:
    """`count` numbers in [0, 1) per position, (count, n) float32 on the device of `like`.

    Args:
        first: stream of the first row; the others follow it.
        positions: (n,) int64, on the host.
    """
    where = positions.numpy()
    rows = np.stack([uniform(seed, epoch, where, first + row) for row in range(count)])
    return on_device(torch.from_numpy(rows).float(), like.device)


def uniform_within(count: int, stream: int, *, seed: int, epoch: int, positions: Tensor, like: Tensor) -> Tensor:
    """`count` numbers in [0, 1) for the inside of each sample, such as its points: (n, count) float32."""
    where = positions.numpy()[:, None] * count + np.arange(count)
    rows = uniform(seed, epoch, where.ravel(), stream).reshape(where.shape)
    return on_device(torch.from_numpy(rows).float(), like.device)
