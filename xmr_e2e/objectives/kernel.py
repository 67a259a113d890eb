"""Kernels between rows, and the space in which a kernel is an inner product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Kernel: TypeAlias = Literal["rbf", "linear"]


def kernel_matrix(x: Tensor, y: Tensor, kernel: Kernel, bandwidth: Tensor) -> Tensor:
    """(n, d), (m, d) -> (n, m): exp(-|x_i - y_j|^2 / (2 bandwidth^2)) for rbf, inner products x_i' y_j for linear."""
    products = x @ y.T
    if kernel == "linear":
        return products
    squares = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * products
    return (-squares.clamp(min=0) / (2 * bandwidth**2)).exp()


def median_distance(rows: Tensor) -> Tensor:
    """The median of the Euclidean distances between the n >= 2 rows; 1 where it is 0."""
    median = torch.pdist(rows).median()
    return torch.where(median > 0, median, 1.0)


@dataclass(frozen=True, eq=False)
class KernelSpace:
    """Coordinates of rows in which inner products are a kernel's, everything in fp64.

    They are those of the kernel's projection on the span of some rows, the landmarks (Nystroem's approximation): of
    rows in that span, such as all training rows where all are landmarks, they give the kernel itself.
    """

    kernel: Kernel
    mean: Tensor
    """(d,), which is taken off rows first: the linear kernel is of centered rows, the other does not see it"""
    bandwidth: Tensor
    """scalar, of the rbf kernel"""
    landmarks: Tensor
    """(m, d), less the mean"""
    root: Tensor
    """(m, r): kernel values with the landmarks, times this matrix, are coordinates"""

    def coordinates(self, rows: Tensor) -> Tensor:
        """(n, d) -> (n, r)."""
        return kernel_matrix(rows.double() - self.mean, self.landmarks, self.kernel, self.bandwidth) @ self.root


@torch.no_grad()
def kernel_space(rows: Tensor, chosen: Tensor, kernel: Kernel, *, bandwidth: float, least: int) -> KernelSpace:
    """The space of a kernel, scaled so that the coordinates of the rows have the variance 1 in sum.

    Args:
        rows: (n, d).
        chosen: positions of the rows that are landmarks.
        bandwidth: of the rbf kernel, as a multiple of the median distance between landmarks.
        least: coordinates that there are at least; those beyond the rank are 0. Of rows that are all alike, all are.
    """
    rows = rows.double()
    mean = rows.mean(0)
    landmarks = (rows - mean)[chosen]
    width = bandwidth * median_distance(landmarks)
    root = _inverse_root(kernel_matrix(landmarks, landmarks, kernel, width), least)
    space = KernelSpace(kernel, mean, width, landmarks, root)
    variance = space.coordinates(rows).var(0).sum()
    size = rows.square().sum(1).mean() if kernel == "linear" else torch.ones_like(variance)
    is_noise = variance <= (len(rows) * torch.finfo(rows.dtype).eps) ** 2 * size
    return replace(space, root=root * torch.where(is_noise, 0.0, variance.rsqrt()))


def _inverse_root(gram: Tensor, least: int) -> Tensor:
    """(m, m) -> (m, r): U S^-1/2 of gram = U S U', without directions that are zero to rounding."""
    values, vectors = torch.linalg.eigh(gram)
    kept = values > len(gram) * torch.finfo(gram.dtype).eps * values[-1].clamp(min=0)
    found = vectors[:, kept] / values[kept].sqrt()
    return torch.nn.functional.pad(found, (0, max(least - found.shape[1], 0)))
