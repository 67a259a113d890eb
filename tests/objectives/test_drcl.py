"""DRCL's losses against loops over samples, pairs and dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.drcl import confidence, recast_labels, rsc_loss, spl_loss

SINGLE = [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
MULTI = [[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
BOTH = pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single_label", "multi_label"])
PERMUTATION = torch.tensor([3, 0, 1, 4, 2])

Rows = list[list[float]]


def embeddings(n: int = 5, d: int = 4) -> Tensor:
    """Of length 1, as the encoder gives them."""
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def matrix(d: int = 4, c: int = 3) -> Tensor:
    return 2 * torch.randn(d, c, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def probability_of(row: Sequence[float], label: Sequence[float], columns: Rows) -> float:
    """softmax(z W) · y of one sample; columns are those of W."""
    exponentials = [math.exp(sum(a * b for a, b in zip(row, column))) for column in columns]
    return sum(weight * value for weight, value in zip(label, exponentials)) / sum(exponentials)


def cosine(x: Sequence[float], y: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(x, y)) / max(math.hypot(*x) * math.hypot(*y), 1e-6)


def reference(z: Rows, y: Rows, prior: Tensor, mu: float, mix: float, permutation: list[int]) -> dict[str, float]:
    """Eq. 3-7, one sample, pair and dimension at a time."""
    n, d = len(z), len(z[0])
    z, y = ([[mix * a + (1 - mix) * b for a, b in zip(x[j], x[permutation[j]])] for j in range(n)] for x in (z, y))
    inverse = np.linalg.inv(prior.numpy().T @ prior.numpy()) @ prior.numpy().T
    recast = [[sum(y[j][k] * inverse[k, i] for k in range(len(y[j]))) for i in range(d)] for j in range(n)]
    terms = {"label": 0.0, "discrimination": 0.0, "invariance": 0.0}
    for j in range(n):
        terms["label"] += (1 - probability_of(z[j], y[j], prior.T.tolist()) ** mu) / mu / n
        terms["invariance"] += sum((recast[j][i] - z[j][i]) ** 2 for i in range(d)) / (n * d)
        for k in range(n):
            within = 2 * cosine(recast[j], recast[k]) - 2 * cosine(z[j], z[k])
            across = 2 * cosine(recast[j], z[k]) - 2 * cosine(z[j], recast[k])
            terms["discrimination"] += (within**2 + across**2) / n**2
    return terms


@BOTH
def test_confidence_is_the_probability_given_to_the_samples_classes(labels: list[list[int]]) -> None:
    z, W = embeddings(), matrix()
    expected = [probability_of(row, label, W.T.tolist()) for row, label in zip(z.tolist(), labels)]
    assert confidence(z, torch.tensor(labels), W).tolist() == pytest.approx(expected, abs=1e-12)
    assert 0 <= min(expected) <= max(expected) <= 1 + 1e-12


@BOTH
@pytest.mark.parametrize("mu", [0.01, 0.37, 1.0, 2.0])
def test_spl_loss_equals_loops_over_samples(labels: list[list[int]], mu: float) -> None:
    z, W = embeddings(), matrix()
    probabilities = [probability_of(row, label, W.T.tolist()) for row, label in zip(z.tolist(), labels)]
    expected = sum((1 - p**mu) / mu for p in probabilities) / len(labels)
    assert spl_loss(z, torch.tensor(labels), W, mu=mu).item() == pytest.approx(expected, abs=1e-12)


def test_spl_loss_is_cross_entropy_for_small_mu_even_in_fp32() -> None:
    z, W = embeddings().float(), matrix().float()
    classes = torch.tensor([2, 0, 2, 1, 0])
    expected = F.cross_entropy(z @ W, classes).item()
    assert spl_loss(z, classes, W, mu=1e-6).item() == pytest.approx(expected, rel=1e-5)


@BOTH
@pytest.mark.parametrize("mu", [0.01, 0.37, 1.0, 2.0])
def test_gradient_of_the_spl_loss_equals_finite_differences(labels: list[list[int]], mu: float) -> None:
    parts = embeddings().requires_grad_(), matrix().requires_grad_()
    torch.autograd.gradcheck(lambda z, W: spl_loss(z, torch.tensor(labels), W, mu=mu), parts)


@pytest.mark.parametrize("mu", [0.01, 0.5, 1.0, 2.0])
def test_gradients_are_finite_where_the_probability_underflows_or_there_is_no_label(mu: float) -> None:
    # The logits differ by 400: the probability of class 0 is e^-400, zero in fp32.
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    W = torch.tensor([[-200.0, 200.0], [0.0, 0.0]], requires_grad=True)
    loss = spl_loss(z, torch.tensor([[1, 0], [0, 0], [0, 1]]), W, mu=mu)
    gradients = torch.autograd.grad(loss, (z, W))
    expected = ((1 - math.exp(-400 * mu)) / mu + 1 / mu + (1 - 0.5**mu) / mu) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for gradient in gradients:
        assert gradient.isfinite().all()
    # dL/dlogits is p^mu (p_k - y_k), so that samples that are far off still learn while mu is small.
    assert gradients[0][0, 0].item() == pytest.approx(math.exp(-400 * mu) * -400 / -3, rel=1e-3, abs=1e-9)
    assert (gradients[0][1] == 0).all()


@pytest.mark.parametrize("mu", [0.0, -0.1, float("nan")])
def test_mu_outside_its_range_is_refused(mu: float) -> None:
    for loss in (spl_loss, rsc_loss):
        with pytest.raises(ValueError, match="mu"):
            loss(embeddings(), torch.tensor(SINGLE), matrix(), mu=mu)


@BOTH
@pytest.mark.parametrize("permutation", [None, PERMUTATION], ids=["unmixed", "mixed"])
@pytest.mark.parametrize("mu", [0.02, 1.0])
def test_rsc_loss_equals_loops_over_samples_and_pairs(
    labels: list[list[int]], permutation: Tensor | None, mu: float
) -> None:
    z, prior = embeddings(), matrix()
    terms = rsc_loss(z, torch.tensor(labels), prior, mu=mu, permutation=permutation, alpha=0.3, beta=0.7)
    order = list(range(5)) if permutation is None else permutation.tolist()
    expected = reference(z.tolist(), [[float(a) for a in label] for label in labels], prior, mu, 0.9, order)
    expected["total"] = expected["label"] + 0.3 * expected["discrimination"] + 0.7 * expected["invariance"]
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, abs=1e-12)


def test_default_weights_are_a_tenth_each() -> None:
    terms = rsc_loss(embeddings(), torch.tensor(SINGLE), matrix(), mu=0.5, permutation=PERMUTATION)
    expected = terms["label"] + 0.1 * terms["discrimination"] + 0.1 * terms["invariance"]
    assert terms["total"].item() == pytest.approx(expected.item(), abs=1e-12)


@BOTH
@pytest.mark.parametrize("permutation", [None, PERMUTATION], ids=["unmixed", "mixed"])
def test_gradient_of_the_rsc_loss_equals_finite_differences(
    labels: list[list[int]], permutation: Tensor | None
) -> None:
    z, prior = embeddings().requires_grad_(), matrix()
    torch.autograd.gradcheck(
        lambda x: rsc_loss(x, torch.tensor(labels), prior, mu=0.3, permutation=permutation, alpha=0.5, beta=2)["total"],
        z,
    )


def test_the_prior_is_frozen_in_the_rsc_loss_and_trained_in_the_spl_loss() -> None:
    z, prior = embeddings().requires_grad_(), matrix().requires_grad_()
    rsc_loss(z, torch.tensor(SINGLE), prior, mu=0.3)["total"].backward()
    assert prior.grad is None
    spl_loss(z, torch.tensor(SINGLE), prior, mu=0.3).backward()
    assert prior.grad is not None


def test_gradients_are_finite_for_identical_and_zero_rows() -> None:
    z = embeddings().float()
    z[1] = z[0]
    z[2] = 0
    z.requires_grad_()
    terms = rsc_loss(z, torch.tensor(MULTI), matrix().float(), mu=0.01, permutation=torch.arange(5))
    for name, value in terms.items():
        (gradient,) = torch.autograd.grad(value, z, retain_graph=True)
        assert value.isfinite() and gradient.isfinite().all(), name


@BOTH
def test_the_prior_maps_recast_representations_back_to_their_labels(labels: list[list[int]]) -> None:
    truth = torch.tensor(labels, dtype=torch.float64)
    recast = recast_labels(truth, matrix())
    torch.testing.assert_close(recast @ matrix(), truth)
    np.testing.assert_allclose(recast.numpy(), truth.numpy() @ np.linalg.pinv(matrix().numpy()), atol=1e-12)


def test_embeddings_equal_to_the_recast_labels_have_neither_invariance_nor_discrimination_loss() -> None:
    recast = recast_labels(torch.tensor(SINGLE, dtype=torch.float64), matrix())
    terms = rsc_loss(recast, torch.tensor(SINGLE), matrix(), mu=1.0, permutation=PERMUTATION)
    assert terms["invariance"].item() == pytest.approx(0, abs=1e-20)
    assert terms["discrimination"].item() == pytest.approx(0, abs=1e-20)


def test_integer_and_one_hot_labels_give_the_same_losses() -> None:
    z, prior, classes = embeddings(), matrix(), torch.tensor([2, 0, 2, 1, 0])
    truth = torch.tensor(SINGLE)
    assert torch.equal(confidence(z, classes, prior), confidence(z, truth, prior))
    assert torch.equal(spl_loss(z, classes, prior, mu=0.4), spl_loss(z, truth, prior, mu=0.4))
    terms = (rsc_loss(z, labels, prior, mu=0.4, permutation=PERMUTATION) for labels in (classes, truth))
    for found, expected in zip(*(values.values() for values in terms)):
        assert torch.equal(found, expected)
