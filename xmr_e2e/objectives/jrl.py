"""JRL: joint projections of several modalities to labels, with group sparsity and graphs (Zhai et al., 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

_ROWS = 1024
"""whose neighbors are looked for at a time"""
_TOLERANCE = 1e-6
"""relative change of the objective below which the iterations end"""
_SMALLEST = 1e-12
"""squared norm that each row of a projection has at least where it is divided by: a row that is zero stays so"""


@dataclass(frozen=True)
class JrlWeights:
    """The weights of the terms beside the squared errors of the labels, whose weight is 1."""

    correlation: float
    sparsity: float
    graph: float


@torch.no_grad()
def fit_jrl(
    views: Sequence[Tensor], labels: Tensor, weights: JrlWeights, *, neighbors: int, iterations: int
) -> list[Tensor]:
    """The projections P_i that minimize, over n samples of m views X_i with the labels Y,

        1/n (sum_i |X_i P_i - Y|^2 + a sum_{i<j} |X_i P_i - X_j P_j|^2 + l sum_i tr(P_i' X_i' L_i X_i P_i))
        + g sum_i |P_i|_{2,1},

    a being `correlation`, l `graph`, g `sparsity`, |P|_{2,1} the sum of the lengths of P's rows, and L_i the normalized
    Laplacian of the view's neighbors. The problem is convex. In turns each P_i is the solution of a linear system in
    which its rows' lengths are those of the turn before, which never raises the objective:

        ((1 + a (m - 1)) X_i'X_i + l X_i' L_i X_i + n g D_i) P_i = X_i' (Y + a sum_{j != i} X_j P_j),

    D_i = diag(1 / (2 |row of P_i|)), at first 1.

    Args:
        views: (n, d_i) fp64, centered.
        labels: (n, c) multi-hot.
        neighbors: nearest rows, of which the graph of a view consists.
        iterations: turns at most.

    Returns:
        (d_i, c) fp64 of each view.
    """
    problem = _Problem(views, labels.to(views[0]), weights, neighbors)
    found = [torch.zeros_like(target) for target in problem.targets]
    penalties = [view.new_ones(view.shape[1]) for view in views]
    before = float("inf")
    for _ in range(iterations):
        for number in range(len(views)):
            found[number] = problem.solve(number, found, penalties[number])
            penalties[number] = 0.5 / _lengths(found[number])
        now = problem.objective(found)
        if before - now <= _TOLERANCE * now:
            break
        before = now
    return found


class _Problem:
    """The moments of the views, all that the objective needs of the samples, each divided by their number."""

    def __init__(self, views: Sequence[Tensor], labels: Tensor, weights: JrlWeights, neighbors: int) -> None:
        n = len(labels)
        self.weights = weights
        self.products = [[one.T @ other / n for other in views] for one in views]
        self.targets = [view.T @ labels / n for view in views]
        self.labels = labels.square().sum() / n
        self.smoothness = [
            laplacian_moments(view, neighbors) / n if weights.graph else torch.zeros_like(self.products[i][i])
            for i, view in enumerate(views)
        ]

    def solve(self, number: int, found: Sequence[Tensor], penalties: Tensor) -> Tensor:
        """The projection of the view of this number, given those of the others and the penalties of its rows."""
        a, others = self.weights.correlation, [other for other in range(len(found)) if other != number]
        matrix = (1 + a * len(others)) * self.products[number][number] + self.weights.graph * self.smoothness[number]
        matrix = matrix + torch.diag(self.weights.sparsity * penalties)
        target = self.targets[number] + a * sum(
            (self.products[number][other] @ found[other] for other in others), torch.zeros_like(self.targets[number])
        )
        return torch.cholesky_solve(target, torch.linalg.cholesky(matrix))

    def objective(self, found: Sequence[Tensor]) -> float:
        """The value that is minimized."""
        total = torch.stack([self._own(number, projection) for number, projection in enumerate(found)]).sum()
        for one, other in combinations(range(len(found)), 2):
            total = total + self.weights.correlation * self._distance(found, one, other)
        return float(total)

    def _own(self, number: int, p: Tensor) -> Tensor:
        squares = (p * (self.products[number][number] @ p)).sum()
        errors = self.labels - 2 * (p * self.targets[number]).sum() + squares
        smoothness = self.weights.graph * (p * (self.smoothness[number] @ p)).sum()
        return errors + smoothness + self.weights.sparsity * _lengths(p).sum()

    def _distance(self, found: Sequence[Tensor], one: int, other: int) -> Tensor:
        def product(i: int, j: int) -> Tensor:
            return (found[i] * (self.products[i][j] @ found[j])).sum()

        return product(one, one) + product(other, other) - 2 * product(one, other)


def laplacian_moments(rows: Tensor, neighbors: int) -> Tensor:
    """X' L X of (n, d) rows, L = I - D^-1/2 W D^-1/2 of the graph in which W_ij = 1 where one of two rows is among the
    nearest of the other, D being its degrees."""
    n = len(rows)
    nearest = torch.cat([_nearest(rows, start, neighbors) for start in range(0, n, _ROWS)])
    places = torch.stack([torch.arange(n, device=rows.device).repeat_interleave(nearest.shape[1]), nearest.flatten()])
    both = torch.cat([places, places.flip(0)], 1)
    edges = torch.unique(both, dim=1)
    graph = torch.sparse_coo_tensor(edges, rows.new_ones(edges.shape[1]), (n, n), check_invariants=True)
    degrees = torch.sparse.sum(graph, 1).to_dense().clamp(min=1)
    scaled = rows / degrees.sqrt()[:, None]
    return rows.T @ rows - scaled.T @ torch.sparse.mm(graph, scaled)


def _nearest(rows: Tensor, start: int, neighbors: int) -> Tensor:
    """Positions of the nearest other rows of some rows from `start` on, by Euclidean distance."""
    distances = torch.cdist(rows[start : start + _ROWS], rows)
    own = torch.arange(len(distances), device=rows.device)
    distances[own, own + start] = torch.inf
    return distances.topk(min(neighbors, len(rows) - 1), largest=False).indices


def _lengths(projection: Tensor) -> Tensor:
    """(d, c) -> (d,), the rows' lengths."""
    return projection.square().sum(1).clamp(min=_SMALLEST).sqrt()
