"""Canonical correlation: the loss of deep CCA (Andrew et al., 2013) and linear CCA in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def correlation_loss(
    x: Tensor, y: Tensor, *, k: int | None = None, ridge: float = 1e-3, square_ridge: float = 0.0
) -> Tensor:
    """Minus the total correlation of two views (Andrew et al., 2013, Sec. 3; ALSCOR, Eq. 8 and 29).

    x: (n, d_x), y: (n, d_y), row i of both being one pair. Returns -sum_{i <= k} s_i as a scalar, s_1 >= s_2 >= ...
    being the singular values of T = Sxx^-1/2 Sxy Syy^-1/2, covariances with denominator n - 1, and `ridge` added to
    the diagonals of Sxx and Syy. k=None takes all min(d_x, d_y), the tr((T'T)^{1/2}) that ALSCOR's Eq. 8 misprints.
    The value lies between -k and 0; it is 0 in expectation only where n >> d.

    `square_ridge` r is added to the eigenvalues s_i^2 of T'T, as in a widely used implementation of deep CCA, where it
    equals `ridge`: the value becomes -sum_{i <= k} sqrt(s_i^2 + r), and small correlations pull less than large ones.

    Computed in fp64, whatever autocast is on, and returned in fp32 (fp64 for fp64 views). Repeated singular values
    and n <= d are harmless; where s_k = s_{k+1}, the gradient is that of one choice of the k directions.

    Raises ValueError for fewer than two pairs, for views of different length, and for k outside 1 .. min(d_x, d_y).
    """
    with torch.autocast(x.device.type, enabled=False):
        whitened = _whiten(x.double(), y.double(), k, ridge)
        total: Tensor = _TopSingularValues.apply(whitened.cross, k or min(whitened.cross.shape), square_ridge)
        return -total.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class CanonicalCorrelation:
    """Linear projections of views into a space of k canonical variates, everything in fp64."""

    means: tuple[Tensor, ...]
    """(d_i,) of each view"""
    projections: tuple[Tensor, ...]
    """(d_i, k) of each view, columns by falling correlation"""
    correlations: Tensor
    """(k,) canonical correlations of the views it was fitted on, falling"""

    def project(self, view: int, rows: Tensor) -> Tensor:
        """(m, d) -> (m, k): canonical variates; of two views, of unit variance on those fitted (less the ridge's
        share)."""
        return (rows.double() - self.means[view]) @ self.projections[view]


@torch.no_grad()
def linear_cca(x: Tensor, y: Tensor, k: int, *, ridge: float) -> CanonicalCorrelation:
    """Fit linear CCA (Hotelling, 1936): the k pairs of directions whose projections correlate most.

    x: (n, d_x), y: (n, d_y), row i of both being one pair; `ridge` is added to the diagonals of both covariances.
    Raises ValueError as `correlation_loss` does.
    """
    whitened = _whiten(x.double(), y.double(), k, ridge)
    left, correlations, right = torch.linalg.svd(whitened.cross, full_matrices=False)
    return CanonicalCorrelation(
        means=(x.double().mean(0), y.double().mean(0)),
        projections=(
            torch.linalg.solve_triangular(whitened.x_root.T, left[:, :k], upper=True),
            torch.linalg.solve_triangular(whitened.y_root.T, right[:k].T, upper=True),
        ),
        correlations=correlations[:k],
    )


@torch.no_grad()
def multiview_cca(views: Sequence[Tensor], k: int, *, ridge: float) -> CanonicalCorrelation:
    """Fit linear CCA of m >= 2 views: the k joint directions whose projections' correlations have the largest sum.

    The relaxation of SUMCOR (Rupnik and Shawe-Taylor, 2010) to one constraint on all views together: sum_{i != j}
    w_i' Sij w_j is largest under sum_i w_i' Sii w_i = m, which is the generalized eigenproblem of the covariances
    between views and of those within them. For two views it is CCA. The correlations are the eigenvalues divided by
    m - 1, so that views that are all the same have 1.

    views: (n, d_i), row r of all being one sample; `ridge` is added to the diagonals of the covariances within views.
    Raises ValueError for fewer than two samples or views, for views of different length, and for k outside
    1 .. min(d_i).
    """
    _check_views(views, k)
    means = [view.double().mean(0) for view in views]
    centered = [view.double() - mean for view, mean in zip(views, means)]
    roots = [torch.linalg.cholesky(_covariance(view, view, ridge)) for view in centered]
    whitened = [torch.linalg.solve_triangular(root, view.T, upper=False).T for root, view in zip(roots, centered)]
    values, vectors = torch.linalg.eigh(_between(whitened))
    largest = vectors[:, -k:].flip(1).split([len(root) for root in roots])
    return CanonicalCorrelation(
        means=tuple(means),
        projections=tuple(
            torch.linalg.solve_triangular(root.T, part, upper=True) * len(views) ** 0.5
            for root, part in zip(roots, largest)
        ),
        correlations=values[-k:].flip(0) / (len(views) - 1),
    )


def _between(views: Sequence[Tensor]) -> Tensor:
    """The covariances between different views, (sum d_i, sum d_i), with zeros for those within one."""
    joint = torch.cat(list(views), dim=1)
    covariance, start = _covariance(joint, joint), 0
    for view in views:
        end = start + view.shape[1]
        covariance[start:end, start:end] = 0.0
        start = end
    return covariance


@dataclass(frozen=True)
class _Whitened:
    """Cholesky roots of both covariances and the cross-covariance between the whitened views."""

    x_root: Tensor
    y_root: Tensor
    cross: Tensor


def _whiten(x: Tensor, y: Tensor, k: int | None, ridge: float) -> _Whitened:
    _check_views((x, y), k)
    x, y = x - x.mean(0), y - y.mean(0)
    # Sxx = L L' serves as well as the symmetric root: L^-1 = Q Sxx^-1/2 with Q orthogonal, which leaves the singular
    # values alone; and its gradient, unlike that of eigenvectors, does not divide by gaps between eigenvalues.
    x_root = torch.linalg.cholesky(_covariance(x, x, ridge))
    y_root = torch.linalg.cholesky(_covariance(y, y, ridge))
    half = torch.linalg.solve_triangular(x_root, _covariance(x, y), upper=False)
    return _Whitened(x_root, y_root, torch.linalg.solve_triangular(y_root, half.T, upper=False).T)


def _check_views(views: Sequence[Tensor], k: int | None) -> None:
    lengths, widths = [len(view) for view in views], [view.shape[1] for view in views]
    if len(views) < 2 or lengths[0] < 2 or len(set(lengths)) > 1:
        found = " and ".join(map(str, lengths))
        raise ValueError(f"canonical correlation needs views of the same two or more pairs, got {found}")
    if k is not None and not 1 <= k <= min(widths):
        raise ValueError(f"k={k} canonical correlations of views with {' and '.join(map(str, widths))} dimensions")


def _covariance(x: Tensor, y: Tensor, ridge: float = 0.0) -> Tensor:
    """Of centred views; the ridge goes on the diagonal."""
    covariance = x.T @ y / (len(x) - 1)
    return covariance + ridge * torch.eye(*covariance.shape, dtype=x.dtype, device=x.device) if ridge else covariance


class _TopSingularValues(torch.autograd.Function):
    """Sum over the k largest singular values s_i of sqrt(s_i^2 + r), with the (sub-)gradient U_k D V_k', D being
    s_i / sqrt(s_i^2 + r); at r = 0, Eq. 13 without its -1/2.

    Singular values that are zero to rounding get no gradient: at r = 0 their directions are arbitrary, and leaving them
    out is the sub-gradient of least norm.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, k: int, square_ridge: float) -> Tensor:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        values = values[:k]
        roots = (values**2 + square_ridge).sqrt() if square_ridge else values
        # Measured against 1, not against the largest: these are correlations, of whitened views.
        kept = values > max(matrix.shape) * torch.finfo(matrix.dtype).eps
        weights = torch.where(kept, values / torch.where(kept, roots, 1.0), 0.0)
        ctx.save_for_backward((left[:, :k] * weights) @ right[:k])
        total: Tensor = roots.sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (direction,) = ctx.saved_tensors
        return grad * direction, None, None
