"""Kernels against loops over pairs of rows, and the space in which they are inner products."""

from __future__ import annotations

import math
import statistics
from itertools import combinations

import pytest
import torch
from torch import Tensor

from xmr_e2e.objectives.kernel import Kernel, kernel_matrix, kernel_space, median_distance

ROWS = 3 + torch.randn(17, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def value(x: list[float], y: list[float], kernel: Kernel, bandwidth: float) -> float:
    if kernel == "linear":
        return sum(a * b for a, b in zip(x, y))
    return math.exp(-(math.dist(x, y) ** 2) / (2 * bandwidth**2))


def matrix(x: Tensor, y: Tensor, kernel: Kernel, bandwidth: float) -> Tensor:
    return torch.tensor([[value(a, b, kernel, bandwidth) for b in y.tolist()] for a in x.tolist()], dtype=x.dtype)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_kernels_equal_loops(kernel: Kernel) -> None:
    found = kernel_matrix(ROWS, ROWS[:5] * 2, kernel, torch.tensor(1.7))
    torch.testing.assert_close(found, matrix(ROWS, ROWS[:5] * 2, kernel, 1.7), check_dtype=False, rtol=1e-6, atol=0)


def test_the_median_distance_is_that_of_all_pairs() -> None:
    distances = [math.dist(x, y) for x, y in combinations(ROWS.tolist(), 2)]
    assert median_distance(ROWS).item() == pytest.approx(statistics.median_low(distances))
    assert median_distance(torch.ones(4, 3)) == 1


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_inner_products_of_coordinates_are_the_kernel_where_all_rows_are_landmarks(kernel: Kernel) -> None:
    space = kernel_space(ROWS, torch.arange(17), kernel, bandwidth=0.8, least=2)
    coordinates = space.coordinates(ROWS)
    centered = ROWS - ROWS.mean(0)
    expected = matrix(centered, centered, kernel, 0.8 * float(median_distance(ROWS)))
    assert coordinates.var(0).sum().item() == pytest.approx(1)
    ratio = coordinates[0] @ coordinates[0] / expected[0, 0]
    torch.testing.assert_close(coordinates @ coordinates.T, ratio * expected)


def test_coordinates_by_some_landmarks_are_a_projection_of_the_kernel() -> None:
    """Between landmarks they are the kernel itself; elsewhere no row has a larger norm than by the kernel."""
    chosen = torch.tensor([1, 4, 9, 12, 16])
    space = kernel_space(ROWS, chosen, "rbf", bandwidth=1.0, least=1)
    products = space.coordinates(ROWS) @ space.coordinates(ROWS).T
    width = float(median_distance(ROWS[chosen]))
    among = products[chosen][:, chosen]
    torch.testing.assert_close(among / among[0, 0], matrix(ROWS[chosen], ROWS[chosen], "rbf", width))
    norms = products.diag() / among[0, 0]
    assert space.root.shape == (5, 5) and (norms < 1 + 1e-9).all() and norms.min() < 0.9


def test_a_space_has_the_coordinates_asked_for_and_rows_that_are_all_alike_are_all_zero() -> None:
    line = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
    space = kernel_space(line, torch.arange(6), "linear", bandwidth=1.0, least=3)
    assert space.root.shape == (6, 3) and (space.coordinates(line)[:, 1:] == 0).all()
    for kernel in ("rbf", "linear"):
        for value in (0.1, 1e-9, 1e9):
            rows = torch.full((7, 2), value, dtype=torch.float64)
            alike = kernel_space(rows, torch.arange(7), kernel, bandwidth=1.0, least=3)
            assert (alike.coordinates(rows) == 0).all()


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_the_size_of_features_does_not_matter(kernel: Kernel, size: float) -> None:
    spaces = [kernel_space(rows, torch.arange(9), kernel, bandwidth=1.0, least=1) for rows in (ROWS, ROWS * size)]
    products = [space.coordinates(rows) for space, rows in zip(spaces, (ROWS, ROWS * size))]
    torch.testing.assert_close(products[0] @ products[0].T, products[1] @ products[1].T)
