"""CCA of several views against SciPy's generalized eigenproblem, and against linear CCA where there are two."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from xmr_e2e.objectives.cca import linear_cca, multiview_cca


def views(*widths: int, n: int = 80) -> list[Tensor]:
    """With three latent variables in common, of different scales and offsets."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n, 3)) * [1.0, 0.8, 0.5]
    return [
        torch.tensor((latent @ rng.normal(size=(3, d)) + 0.4 * rng.normal(size=(n, d))) * (2 + i) - i)
        for i, d in enumerate(widths)
    ]


@pytest.mark.parametrize("widths", [(5, 4), (5, 4, 3), (3, 6, 4, 3)])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_projections_solve_the_generalized_eigenproblem(widths: tuple[int, ...], ridge: float) -> None:
    found = views(*widths)
    fitted, m = multiview_cca(found, 3, ridge=ridge), len(widths)
    everything = np.cov(np.hstack([view.numpy() for view in found]), rowvar=False)
    within = scipy.linalg.block_diag(*(np.cov(view.numpy(), rowvar=False) for view in found))
    values, vectors = scipy.linalg.eigh(everything - within, within + ridge * np.eye(len(within)))
    np.testing.assert_allclose(fitted.correlations, values[::-1][:3] / (m - 1), rtol=1e-9)
    joint = torch.cat(list(fitted.projections)).numpy() / math.sqrt(m)
    np.testing.assert_allclose(np.abs(joint), np.abs(vectors[:, ::-1][:, :3]), atol=1e-9)
    signs = np.sign(joint * vectors[:, ::-1][:, :3])  # one for a column, the same in all views
    assert (signs == signs[0]).all()
    for view, rows in enumerate(found):
        assert fitted.project(view, rows).mean(0).abs().max() < 1e-9


@pytest.mark.parametrize("ridge", [1e-9, 0.2])
def test_two_views_have_the_correlations_and_up_to_sign_the_variates_of_linear_cca(ridge: float) -> None:
    x, y = views(5, 4)
    several, two = multiview_cca([x, y], 4, ridge=ridge), linear_cca(x, y, 4, ridge=ridge)
    torch.testing.assert_close(several.correlations, two.correlations, rtol=1e-9, atol=0.0)
    for view, rows in enumerate((x, y)):
        torch.testing.assert_close(several.project(view, rows).abs(), two.project(view, rows).abs())


def test_views_that_are_the_same_correlate_wholly() -> None:
    (x,) = views(4)
    rotated = x @ torch.linalg.qr(torch.randn(4, 4, dtype=x.dtype, generator=torch.Generator().manual_seed(0))).Q
    fitted = multiview_cca([x, 3 * x + 1, rotated], 4, ridge=0.0)
    torch.testing.assert_close(fitted.correlations, torch.ones(4, dtype=x.dtype))
    one, two, three = (fitted.project(view, rows) for view, rows in enumerate((x, 3 * x + 1, rotated)))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one, three)


def test_the_sum_of_correlations_is_larger_than_that_of_other_directions() -> None:
    found = views(5, 4, 3)
    fitted = multiview_cca(found, 1, ridge=0.0)
    best = float(fitted.correlations[0]) * 6  # ordered pairs of three views
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        directions = [torch.randn(view.shape[1], dtype=view.dtype, generator=generator) for view in found]
        variates = [view @ direction for view, direction in zip(found, directions)]
        joint = torch.stack([each - each.mean() for each in variates])
        covariance = joint @ joint.T / 79
        between = covariance.sum() - covariance.trace()
        assert 3 * float(between / covariance.trace()) <= best + 1e-9


@pytest.mark.parametrize("shapes", [[(5, 2)], [(1, 2), (1, 2)], [(5, 2), (4, 2), (5, 2)]])
def test_fewer_than_two_views_or_samples_and_unequal_lengths_are_refused(shapes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="two or more pairs, got "):
        multiview_cca([torch.randn(shape) for shape in shapes], 1, ridge=0.1)


def test_more_variates_than_the_narrowest_view_has_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"k=4 canonical correlations of views with 5 and 4 and 3 dimensions"):
        multiview_cca(views(5, 4, 3), 4, ridge=0.1)
