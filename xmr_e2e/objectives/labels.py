"""Class labels in the one form that objectives compute with."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Labels: TypeAlias = Tensor | NDArray[Any]
"""(n,) integer classes, or (n, c) multi-hot"""


def multi_hot_labels(labels: Labels, classes: int | None = None) -> Tensor:
    """Labels as (n, c) multi-hot: fp32, or as they are where they are floating point and (n, c) already.

    labels: (n,) integer classes or (n, c) multi-hot. classes: the number c; None takes the width of multi-hot labels,
    and one more than the largest of integer ones.

    Raises ValueError for labels of another shape, for integer classes outside 0 .. c - 1, and for (n,) labels that are
    not integers.
    """
    labels = torch.as_tensor(labels)
    if labels.dim() == 2 and classes in (None, labels.shape[1]):
        return labels if labels.is_floating_point() else labels.float()
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        width = "c" if classes is None else classes
        shape = tuple(labels.shape)
        raise ValueError(f"labels must be (n,) integers or (n, {width}) multi-hot, not {shape} of {labels.dtype}")
    classes = int(labels.max()) + 1 if classes is None else classes
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels from {int(labels.min())} to {int(labels.max())} for {classes} classes")
    return F.one_hot(labels.long(), classes).float()


def share_a_label(x: Tensor, y: Tensor) -> Tensor:
    """1 where two samples have a class in common, 0 elsewhere: (n, c) and (m, c) multi-hot -> (n, m)."""
    return (x @ y.T).clamp(max=1)
