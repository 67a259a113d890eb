"""Linear CCA on any two views against scikit-learn, and deep CCA's second ridge against symmetric matrix roots."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA
from torch import Tensor

from xmr_e2e.objectives.cca import correlation_loss, linear_cca, multiview_cca


def views(n: int, d_x: int, d_y: int, *, shared: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two views of n pairs with some latent variables in common, their columns of very different scale and offset."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, shared))
    found = []
    for d in (d_x, d_y):
        rows = latent @ rng.normal(size=(shared, d)) + rng.normal(size=(n, d))
        found.append(torch.tensor(rows * 10 ** rng.uniform(-1, 2, d) + rng.normal(size=d)))
    return found[0], found[1]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    n=st.integers(30, 200), d_x=st.integers(1, 8), d_y=st.integers(1, 8), shared=st.integers(0, 4), seed=st.integers(0)
)
def test_linear_cca_has_the_canonical_correlations_of_scikit_learn(
    n: int, d_x: int, d_y: int, shared: int, seed: int
) -> None:
    x, y = views(n, d_x, d_y, shared=shared, seed=seed)
    k = min(d_x, d_y)
    theirs = CCA(n_components=k, tol=1e-15, max_iter=100_000).fit(x.numpy(), y.numpy())
    variates = theirs.transform(x.numpy(), y.numpy())
    expected = [np.corrcoef(variates[0][:, i], variates[1][:, i])[0, 1] for i in range(k)]
    found = linear_cca(x, y, k, ridge=1e-12)
    np.testing.assert_allclose(found.correlations.numpy(), expected, atol=1e-6)
    # The projections have those correlations, too; not only the fit's report of them.
    projected = np.corrcoef(found.project(0, x).numpy(), found.project(1, y).numpy(), rowvar=False)
    np.testing.assert_allclose(np.diag(projected[:k, k:]), expected, atol=1e-6)


@pytest.mark.parametrize(("n", "d_x", "d_y"), [(40, 6, 4), (40, 4, 7), (5, 8, 6)])
@pytest.mark.parametrize("k", [None, 2])
def test_second_ridge_is_added_to_the_squared_correlations(n: int, d_x: int, d_y: int, k: int | None) -> None:
    x, y = views(n, d_x, d_y, shared=2, seed=0)
    covariance = np.cov(x.numpy(), y.numpy(), rowvar=False)
    roots = [
        scipy.linalg.fractional_matrix_power(block + 1e-2 * np.eye(len(block)), -0.5)
        for block in (covariance[:d_x, :d_x], covariance[d_x:, d_x:])
    ]
    cross = roots[0] @ covariance[:d_x, d_x:] @ roots[1]
    squares = sorted(scipy.linalg.eigvalsh(cross.T @ cross), reverse=True)[: k or min(d_x, d_y)]
    expected = -sum(math.sqrt(max(square, 0) + 0.05) for square in squares)
    assert correlation_loss(x, y, k=k, ridge=1e-2, square_ridge=0.05).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("n", "k"), [(20, None), (20, 2), (4, None)])
def test_gradient_with_the_second_ridge_equals_finite_differences(n: int, k: int | None) -> None:
    x, y = (torch.nn.functional.normalize(view, dim=0).requires_grad_() for view in views(n, 4, 5, shared=2, seed=1))
    assert torch.autograd.gradcheck(
        lambda a, b: correlation_loss(a, b, k=k, ridge=1e-2, square_ridge=1e-2), (x, y), atol=1e-6
    )


def test_second_ridge_makes_the_loss_smooth_where_correlations_vanish() -> None:
    """Without it the gradient of a vanishing correlation does not vanish with it."""
    draw = views(40, 5, 1, shared=1, seed=0)[0]
    columns = torch.linalg.qr(draw - draw.mean(0)).Q  # uncorrelated
    sizes = []
    for square_ridge in (0.0, 1e-3):
        x = columns[:, :2].clone().requires_grad_()
        y = columns[:, 2:4] + 1e-4 * columns[:, :2]
        correlation_loss(x, y, ridge=1e-6, square_ridge=square_ridge).backward()
        assert x.grad is not None
        sizes.append(x.grad.norm().item())
    assert sizes[1] < 0.01 * sizes[0]


def test_two_pairs_have_one_direction_and_one_correlation() -> None:
    x, y = torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    # Variances 2 and 8, covariance -4: with the ridge, 4 / sqrt((2 + r) (8 + r)).
    expected = 4 / math.sqrt((2 + 0.1) * (8 + 0.1))
    assert correlation_loss(x, y, ridge=0.1).item() == pytest.approx(-expected)
    assert linear_cca(x, y, 2, ridge=0.1).correlations.tolist() == pytest.approx([expected, 0.0])


@pytest.mark.parametrize(("n", "other"), [(1, 1), (0, 0), (3, 2)])
def test_fewer_than_two_pairs_and_views_of_unequal_length_are_refused(n: int, other: int) -> None:
    with pytest.raises(ValueError, match=f"two or more pairs, got {n} and {other}"):
        correlation_loss(torch.zeros(n, 2), torch.zeros(other, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_correlation_of_half_precision_rows_is_that_of_full_ones(dtype: torch.dtype) -> None:
    x, y = (torch.nn.functional.normalize(view, dim=0).to(dtype) for view in views(30, 4, 3, shared=2, seed=0))
    found = correlation_loss(x, y)
    assert found.dtype == torch.float32
    assert torch.equal(found, correlation_loss(x.float(), y.float()))


def test_linear_cca_is_fitted_and_applied_in_fp64_whatever_the_views_are_and_autocast_is() -> None:
    x, y = (torch.nn.functional.normalize(view).float() for view in views(40, 4, 3, shared=2, seed=2))
    expected = linear_cca(x.double(), y.double(), 2, ridge=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        fitted = linear_cca(x, y, 2, ridge=1e-3)
    found, wanted = ([*each.means, *each.projections, each.correlations] for each in (fitted, expected))
    assert {value.dtype for value in wanted} == {torch.float64}
    assert all(map(torch.equal, found, wanted))
    assert torch.equal(fitted.project(0, x), expected.project(0, x.double()))
    assert torch.equal(fitted.project(1, y), expected.project(1, y.double()))
    assert fitted.project(0, x).dtype == torch.float64


def test_fits_are_in_double_precision_also_where_autocast_is_on() -> None:
    x, y = views(60, 5, 4, shared=2, seed=0)
    expected = linear_cca(x.float(), y.float(), 3, ridge=1e-3), multiview_cca([x.float(), y.float()], 3, ridge=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cca(x.float(), y.float(), 3, ridge=1e-3), multiview_cca([x.float(), y.float()], 3, ridge=1e-3)
    for mine, theirs in zip(found, expected):
        assert torch.equal(mine.correlations, theirs.correlations)
        assert all(torch.equal(*pair) for pair in zip(mine.projections, theirs.projections))
