"""JRL's projections against the objective written with loops and an optimizer of SciPy."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from tests.helpers.references import Rows
from xmr_e2e.objectives import jrl
from xmr_e2e.objectives.jrl import JrlWeights, fit_jrl, laplacian_moments

WIDTHS = (3, 4, 2)
N, CLASSES, NEIGHBORS = 30, 3, 4


def data(multi_label: bool = False) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.eye(CLASSES)[torch.arange(N) % CLASSES]
    if multi_label:
        labels[::4, 1] = 1
    views = []
    for d in WIDTHS:
        rows = labels.double() @ torch.randn(CLASSES, d, generator=generator, dtype=torch.float64)
        rows += 0.5 * torch.randn(N, d, generator=generator, dtype=torch.float64)
        views.append((rows - rows.mean(0)) / rows.std(0))
    return views, labels


def edges(rows: Rows) -> set[tuple[int, int]]:
    """Pairs of rows one of which is among the nearest of the other, with loops."""
    found = set()
    for i, row in enumerate(rows):
        others = sorted((j for j in range(len(rows)) if j != i), key=lambda j: math.dist(row, rows[j]))
        found |= {(min(i, j), max(i, j)) for j in others[:NEIGHBORS]}
    return found


def smoothness(pairs: set[tuple[int, int]], projected: Rows) -> float:
    """tr(Z' L Z) of the normalized Laplacian, with loops: the squared distances of neighbors, each row divided by the
    root of its number of neighbors."""
    degree = [sum(i in pair for pair in pairs) for i in range(len(projected))]
    scaled = [row / math.sqrt(n) for row, n in zip(projected, degree)]
    return float(sum(np.square(scaled[i] - scaled[j]).sum() for i, j in pairs))


@cache
def graphs() -> list[set[tuple[int, int]]]:
    return [edges(view.numpy()) for view in data()[0]]


def objective(views: list[Rows], labels: Rows, found: list[Rows], weights: JrlWeights) -> float:
    projected = [view @ p for view, p in zip(views, found)]
    total = sum(np.square(z - labels).sum() for z in projected)
    total += weights.correlation * sum(np.square(a - b).sum() for a, b in combinations(projected, 2))
    if weights.graph:
        total += weights.graph * sum(smoothness(pairs, z) for pairs, z in zip(graphs(), projected))
    return float(total / len(labels) + weights.sparsity * sum(np.linalg.norm(row) for p in found for row in p))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "multi_label"),
    [(JrlWeights(1.0, 0.02, 0.3), False), (JrlWeights(0.0, 0.05, 0.0), False), (JrlWeights(3.0, 0.1, 0.0), True)],
)
def test_no_other_projections_have_a_smaller_objective(weights: JrlWeights, multi_label: bool) -> None:
    views, labels = data(multi_label)
    rows, truth = [view.numpy() for view in views], labels.double().numpy()
    cuts = np.cumsum([d * CLASSES for d in WIDTHS])[:-1]

    def value(numbers: Rows) -> float:
        parts = [part.reshape(-1, CLASSES) for part in np.split(numbers, cuts)]
        return objective(rows, truth, parts, weights)

    found = fit_jrl(views, labels, weights, neighbors=NEIGHBORS, iterations=1000)
    ours = np.concatenate([p.numpy().ravel() for p in found])
    best = minimize(value, np.full(len(ours), 0.1), method="L-BFGS-B", options={"maxfun": 100_000})
    assert value(ours) <= best.fun + 1e-4 < value(np.zeros(len(ours)))


def test_the_moments_of_the_laplacian_equal_loops_over_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jrl, "_ROWS", 7)  # rows whose neighbors are looked for at a time
    (view, *_), _ = data()
    direction = torch.tensor([[1.0, 2.0], [0.5, -1.0], [0.3, 0.0]], dtype=torch.float64)
    found = torch.trace(direction.T @ laplacian_moments(view, NEIGHBORS) @ direction).item()
    assert found == pytest.approx(smoothness(edges(view.numpy()), (view @ direction).numpy()))


def test_each_turn_lowers_the_objective() -> None:
    views, labels = data()
    weights = JrlWeights(1.0, 0.05, 0.1)
    rows, truth = [view.numpy() for view in views], labels.double().numpy()
    values = [
        objective(rows, truth, [p.numpy() for p in fit_jrl(views, labels, weights, neighbors=4, iterations=n)], weights)
        for n in (1, 2, 3, 5, 100)
    ]
    assert all(later <= before for before, later in pairwise(values)) and values[1] < values[0] - 1e-4


def test_features_that_tell_nothing_are_left_out() -> None:
    (view, other, _), labels = data()
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    noise = noise - noise.mean(0)
    found, _ = fit_jrl(
        [torch.cat([view, noise], 1), other], labels, JrlWeights(1.0, 0.3, 0.0), neighbors=4, iterations=500
    )
    lengths = found.norm(dim=1)
    assert lengths[:3].max() > 0.1 and lengths[3:].max() < 1e-3


def test_more_neighbors_than_there_are_other_samples_are_all_of_them() -> None:
    (view, *_), _ = data()
    few = view[:4] - view[:4].mean(0)
    degrees = 3.0  # of a whole graph
    expected = few.T @ few * (1 + 1 / degrees)  # rows that sum to zero
    torch.testing.assert_close(laplacian_moments(few, 50), expected)
