"""Objectives against references in numpy, scipy and scikit-learn, and their gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor

from xmr_e2e.objectives.adversarial import modality_loss, reversal_schedule, reverse_gradient
from xmr_e2e.objectives.cca import correlation_loss, linear_cca
from xmr_e2e.objectives.classification import label_loss


def views(n: int, d_x: int, d_y: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of n pairs that share three latent variables."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 3))
    x = latent @ rng.normal(size=(3, d_x)) + rng.normal(size=(n, d_x)) + 2
    y = latent @ rng.normal(size=(3, d_y)) + rng.normal(size=(n, d_y)) - 1
    return torch.tensor(x), torch.tensor(y)


def correlations_by_eigenvectors(x: Tensor, y: Tensor, ridge: float) -> np.ndarray:
    """Singular values of Sxx^-1/2 Sxy Syy^-1/2 as DCCA writes them, with symmetric matrix roots."""
    covariance = np.cov(x.numpy(), y.numpy(), rowvar=False)
    d = x.shape[1]
    x_root = scipy.linalg.fractional_matrix_power(covariance[:d, :d] + ridge * np.eye(d), -0.5)
    y_root = scipy.linalg.fractional_matrix_power(covariance[d:, d:] + ridge * np.eye(y.shape[1]), -0.5)
    return np.asarray(scipy.linalg.svdvals(x_root @ covariance[:d, d:] @ y_root))


@pytest.mark.parametrize(("n", "d_x", "d_y"), [(50, 6, 6), (40, 7, 4), (5, 8, 6)])
@pytest.mark.parametrize("k", [None, 1, 3])
def test_correlation_loss_is_minus_the_sum_of_the_largest_canonical_correlations(
    n: int, d_x: int, d_y: int, k: int | None
) -> None:
    x, y = views(n, d_x, d_y)
    expected = -correlations_by_eigenvectors(x, y, ridge=1e-2)[:k].sum()
    assert correlation_loss(x, y, k=k, ridge=1e-2).item() == pytest.approx(expected, abs=1e-10)


def test_correlation_loss_of_a_linear_map_of_the_other_view_is_minus_its_width() -> None:
    x, _ = views(60, 5, 5)
    y = x @ torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert correlation_loss(x, y, ridge=1e-10).item() == pytest.approx(-5, abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(20, None), (20, 2), (4, None)])
def test_gradient_of_the_correlation_loss_equals_finite_differences(n: int, k: int | None) -> None:
    x, y = (view.requires_grad_() for view in views(n, 4, 5))
    torch.autograd.gradcheck(lambda a, b: correlation_loss(a, b, k=k, ridge=1e-2), (x, y))


def test_gradient_with_repeated_singular_values_equals_finite_differences() -> None:
    # Orthonormal columns shared between the views: all four correlations are exactly 1 / (1 + ridge).
    columns = torch.linalg.qr(torch.randn(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    columns = torch.linalg.qr(columns - columns.mean(0)).Q[:, :4] * math.sqrt(15)
    x, y = columns.clone().requires_grad_(), columns.clone().requires_grad_()
    values = correlations_by_eigenvectors(x.detach(), y.detach(), ridge=1e-2)
    np.testing.assert_allclose(values, 1 / 1.01, atol=1e-12)
    torch.autograd.gradcheck(lambda a, b: correlation_loss(a, b, ridge=1e-2), (x, y))


@pytest.mark.parametrize("case", ["few_pairs", "equal_columns", "dead_columns", "same_view", "constant"])
def test_gradient_stays_finite_and_moderate_for_degenerate_batches(case: str) -> None:
    x, y = (view.float() for view in views(6 if case == "few_pairs" else 30, 8, 8))
    if case == "equal_columns":
        x = x[:, :1].repeat(1, 8)
    elif case == "dead_columns":
        x[:, 3:], y[:, 5:] = 0, 0
    elif case == "same_view":
        y = x.clone()
    elif case == "constant":
        x = torch.ones_like(x)
    x.requires_grad_(), y.requires_grad_()
    loss = correlation_loss(x, y)
    loss.backward()
    assert -8 <= loss.item() <= 0
    for view in (x, y):
        assert view.grad is not None
        # dL/dX = (X W U S U' W - Y Z V U' W) / (n - 1), W and Z inverse roots: |W| <= ridge^-1/2, |X W|^2 <= n - 1.
        assert torch.linalg.matrix_norm(view.grad, 2) <= 2 * 1e-3**-0.5 / math.sqrt(len(x) - 1)


def test_directions_without_correlation_get_no_gradient() -> None:
    x, y = (view.float() for view in views(30, 4, 4))
    x[:, 2:] = 0
    x.requires_grad_()
    correlation_loss(x, y).backward()
    assert x.grad is not None
    assert (x.grad[:, 2:] == 0).all()
    assert (x.grad[:, :2] != 0).any()


def test_gradient_ascent_correlates_two_unrelated_views() -> None:
    x, _ = views(40, 3, 3, seed=1)
    _, y = views(40, 3, 3, seed=2)
    x.requires_grad_()
    optimizer = torch.optim.SGD([x], lr=10)
    for _ in range(100):
        optimizer.zero_grad()
        correlation_loss(x, y).backward()
        optimizer.step()
    assert correlation_loss(x, y).item() < -2.9


def test_correlation_loss_refuses_what_has_no_correlation() -> None:
    x, y = views(10, 4, 4)
    for arguments in [(x[:1], y[:1], None), (x, y[:9], None), (x, y, 5), (x, y, 0)]:
        with pytest.raises(ValueError, match="canonical correlation"):
            correlation_loss(arguments[0], arguments[1], k=arguments[2])


def test_linear_cca_reproduces_scikit_learn() -> None:
    x, y = views(200, 6, 5)
    fitted = linear_cca(x, y, 3, ridge=1e-10)
    theirs = CCA(n_components=3, tol=1e-12, max_iter=20_000).fit(x.numpy(), y.numpy())
    scores = theirs.transform(x.numpy(), y.numpy())
    expected = [np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(fitted.correlations.numpy(), expected, atol=1e-6)


def test_linear_cca_projects_to_uncorrelated_variates_of_unit_variance() -> None:
    x, y = views(200, 6, 5)
    fitted = linear_cca(x, y, 4, ridge=1e-10)
    together = np.cov(fitted.project(0, x).numpy(), fitted.project(1, y).numpy(), rowvar=False)
    diagonal = np.diag(fitted.correlations.numpy())
    np.testing.assert_allclose(together, np.block([[np.eye(4), diagonal], [diagonal, np.eye(4)]]), atol=1e-6)
    assert correlation_loss(x, y, k=4, ridge=1e-10).item() == pytest.approx(-fitted.correlations.sum().item())


def test_linear_cca_centres_new_items_by_the_means_it_was_fitted_on() -> None:
    x, y = views(50, 4, 4)
    fitted = linear_cca(x, y, 2, ridge=1e-4)
    assert fitted.project(0, x.mean(0, keepdim=True)).abs().max() < 1e-12
    torch.testing.assert_close(fitted.project(1, y[:7]), fitted.project(1, y)[:7])


def test_reversed_gradient_is_the_negative_one_times_the_strength() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.equal(reverse_gradient(x, 0.3), x)
    (plain,) = torch.autograd.grad((x**3).sum(), x)
    (reversed_,) = torch.autograd.grad((reverse_gradient(x, 0.3) ** 3).sum(), x)
    torch.testing.assert_close(reversed_, -0.3 * plain)


def test_reversal_schedule_rises_from_zero_to_nearly_one() -> None:
    assert reversal_schedule(0) == 0
    assert reversal_schedule(0.1) == pytest.approx(2 / (1 + 1 / math.e) - 1)
    assert reversal_schedule(1) == pytest.approx(0.9999092, abs=1e-7)


def discriminator_logits(sizes: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, len(sizes), generator=generator, dtype=torch.float64) for n in sizes]


@pytest.mark.parametrize("sizes", [[5, 5], [7, 2], [4, 6, 1]])
def test_modality_loss_is_the_mean_cross_entropy_with_equal_weight_for_each_modality(sizes: list[int]) -> None:
    logits = discriminator_logits(sizes)
    expected = 0.0
    for modality, rows in enumerate(logits):
        for row in rows.tolist():
            probability = math.exp(row[modality]) / sum(math.exp(value) for value in row)
            expected -= math.log(probability) / len(rows) / len(sizes)
    assert modality_loss(logits).item() == pytest.approx(expected)
    assert modality_loss({f"m{i}": rows for i, rows in enumerate(logits)}).item() == pytest.approx(expected)
    torch.autograd.gradcheck(lambda *rows: modality_loss(rows), [rows.requires_grad_() for rows in logits])


def test_modality_loss_of_a_guess_is_the_logarithm_of_the_number_of_modalities() -> None:
    assert modality_loss([torch.zeros(3, 4)] * 4).item() == pytest.approx(math.log(4))


def test_modality_loss_refuses_a_discriminator_of_another_width() -> None:
    with pytest.raises(ValueError, match="3 outputs for 2 modalities"):
        modality_loss([torch.zeros(5, 3), torch.zeros(5, 3)])


def test_single_label_loss_is_the_mean_softmax_cross_entropy() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    classes = [0, 3, 1, 1, 2, 0]
    expected = 0.0
    for row, label in zip(logits.tolist(), classes, strict=True):
        expected -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row)) / 6
    labels = torch.nn.functional.one_hot(torch.tensor(classes), 4).float()
    assert label_loss(logits, labels, multi_label=False).item() == pytest.approx(expected)
    torch.autograd.gradcheck(lambda z: label_loss(z, labels, multi_label=False), (logits,))


def test_multi_label_loss_sums_binary_cross_entropies_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = (torch.rand(5, 3, generator=generator) < 0.5).float()
    expected = 0.0
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        for value, relevant in zip(row, truth, strict=True):
            probability = 1 / (1 + math.exp(-value))
            expected -= math.log(probability if relevant else 1 - probability) / 5
    assert label_loss(logits, labels, multi_label=True).item() == pytest.approx(expected)
    torch.autograd.gradcheck(lambda z: label_loss(z, labels, multi_label=True), (logits,))


def one_hot(n: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(n) % 6, 6).float()


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: correlation_loss(x, y),
        lambda x, y: modality_loss([x[:, :2], y[:, :2]]),
        lambda x, y: label_loss(x, one_hot(len(x)), multi_label=False),
        lambda x, y: label_loss(x, one_hot(len(x)), multi_label=True),
    ],
    ids=["correlation", "modality", "single_label", "multi_label"],
)
def test_losses_and_gradients_under_autocast_are_those_of_full_precision(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, y = (view.float().requires_grad_() for view in views(30, 6, 6))
    plain = loss(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(x, y)
        half = loss(x.bfloat16(), y.bfloat16())
    assert plain.dtype == mixed.dtype == half.dtype == torch.float32
    assert plain.item() == mixed.item()
    assert half.item() == pytest.approx(plain.item(), rel=0.02)
    for expected, got in zip(torch.autograd.grad(plain, x), torch.autograd.grad(mixed, x), strict=True):
        torch.testing.assert_close(got, expected)
