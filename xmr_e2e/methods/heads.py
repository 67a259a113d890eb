"""Fully connected layers, which most papers put on top of a modality's features, fixed projections of labels,
and layers that are fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from xmr_e2e.errors import XmrError
from xmr_e2e.objectives.orthogonal import orthogonal_prior
from xmr_e2e.towers.base import DatasetInfo


def fully_connected(
    widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU, *, last: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """Linear layers from each width to the next with the activation between them, and `last` at the end if given."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), activation()]
    layers.pop()
    return nn.Sequential(*layers, last()) if last else nn.Sequential(*layers)


class ClosedForm(nn.Module):
    """The base of layers that are fitted to the whole training split at once; until then they are of no use."""

    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.tensor(False))


def label_prior(dim: int, dataset: DatasetInfo, seed: int) -> Tensor:
    """`orthogonal_prior` of the dataset's classes, (dim, classes); zeros of its shape for a saved model, whose weights
    have it: drawing it takes dim² numbers and dim³ operations.

    Raises:
        XmrError: there are more classes than dimensions, in which as many columns cannot be orthogonal.
    """
    if dataset.classes > dim:
        raise XmrError(f"--method.dim {dim} must not be below the {dataset.classes} classes of the dataset")
    if dataset.is_saved:
        return torch.zeros(dim, dataset.classes)
    return orthogonal_prior(dim, dataset.classes, seed)
