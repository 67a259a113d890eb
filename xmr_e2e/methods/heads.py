"""Fully connected layers, which most papers put on top of a modality's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn


def fully_connected(
    widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU, *, last: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """Linear layers from each width to the next with the activation between them, and `last` at the end if given."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), activation()]
    layers.pop()
    return nn.Sequential(*layers, last()) if last else nn.Sequential(*layers)
