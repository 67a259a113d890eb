"""Semantic Sharing's losses against loops over samples and places."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from xmr_e2e.objectives.semantic_sharing import (
    consistency_loss,
    label_score_loss,
    label_scores,
    masked_loss_per_sample,
    pool_scores,
    sinusoids,
)

N, T, C, V = 3, 4, 3, 6
SINGLE = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
MULTI = [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
REAL = torch.tensor([[True, True, True, False], [True, False, True, True], [True, False, False, False]])
MASK = torch.tensor([[True, False, True, False], [False, False, False, False], [True, False, False, False]])
TARGETS = torch.tensor([[3, 1, 5, 0], [2, 2, 2, 2], [0, 4, 4, 4]])


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def cross_entropies(logits: Tensor, *, sigmoid_first: bool) -> list[list[float]]:
    """Of every sample, one per masked place."""
    losses: list[list[float]] = [[] for _ in range(N)]
    for i in range(N):
        for t in range(T):
            if MASK[i, t]:
                values = [sigmoid(value) if sigmoid_first else value for value in logits[i, t].tolist()]
                probability = math.exp(values[TARGETS[i, t]]) / sum(math.exp(value) for value in values)
                losses[i].append(-math.log(probability))
    return losses


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single_label", "multi_label"])
def test_label_score_loss_equals_a_loop_over_samples(labels: list[list[int]]) -> None:
    scores = rows(N, C).sigmoid().requires_grad_()
    expected = 0.0
    for row, label in zip(scores.tolist(), labels):
        expected += math.log(1 + math.exp(-sum(a * b for a, b in zip(row, label)))) / N
    assert label_score_loss(scores, torch.tensor(labels)).item() == pytest.approx(expected, abs=1e-12)
    torch.autograd.gradcheck(lambda x: label_score_loss(x, torch.tensor(labels)), scores)


@pytest.mark.parametrize("labels", [SINGLE, MULTI], ids=["single_label", "multi_label"])
def test_consistency_loss_equals_loops_over_pairs(labels: list[list[int]]) -> None:
    image, text = rows(N, 5), rows(N, 5, seed=1)
    expected = 0.0
    for one, other in ((image, text), (image, image), (text, text)):
        for a, y in zip(one.tolist(), labels):
            for b, z in zip(other.tolist(), labels):
                theta = sum(p * q for p, q in zip(a, b)) / (math.hypot(*a) * math.hypot(*b)) / 2
                together = any(p * q for p, q in zip(y, z))
                expected -= (together * theta - math.log(1 + math.exp(theta))) / N**2
    assert consistency_loss(image, text, torch.tensor(labels)).item() == pytest.approx(expected, abs=1e-12)
    parts = [part.requires_grad_() for part in (image, text)]
    torch.autograd.gradcheck(lambda x, y: consistency_loss(x, y, torch.tensor(labels)), parts)


def test_integer_and_one_hot_labels_give_the_same_label_score_loss() -> None:
    scores = rows(N, C)
    assert torch.equal(
        label_score_loss(scores, torch.tensor([2, 0, 1])), label_score_loss(scores, torch.tensor(SINGLE))
    )


def test_label_score_loss_is_exact_for_large_scores() -> None:
    scores = torch.tensor([[-1000.0, 0.0], [0.0, 30.0]], dtype=torch.float64)
    found = label_score_loss(scores, torch.tensor([0, 1])).item()
    assert found == pytest.approx((1000 + math.exp(-30)) / 2, abs=1e-12)
    assert label_score_loss(scores[1:], torch.tensor([1])).item() == pytest.approx(math.exp(-30), rel=1e-3)


@pytest.mark.parametrize("over", ["real", "all"])
def test_pooled_scores_are_the_mean_over_places(over: Literal["real", "all"]) -> None:
    scores = rows(N, T, C).requires_grad_()
    expected = torch.zeros(N, C, dtype=torch.float64)
    for i in range(N):
        places = [t for t in range(T) if over == "all" or REAL[i, t]]
        for k in range(C):
            expected[i, k] = sum(scores[i, t, k].item() for t in places) / len(places)
    torch.testing.assert_close(pool_scores(scores, REAL, over=over).detach(), expected)
    torch.autograd.gradcheck(lambda x: pool_scores(x, REAL, over=over), scores)


def test_padding_does_not_reach_pooled_scores_and_gets_no_gradient() -> None:
    scores = rows(N, T, C)
    expected = pool_scores(scores, REAL)
    scores[~REAL] = math.nan
    scores.requires_grad_()
    pooled = pool_scores(scores, REAL)
    assert torch.equal(pooled, expected)
    (gradient,) = torch.autograd.grad(pooled.sum(), scores)
    assert gradient.isfinite().all()
    assert (gradient[~REAL] == 0).all()


def test_a_sample_without_places_has_scores_of_zero() -> None:
    assert (pool_scores(rows(N, T, C), torch.zeros(N, T, dtype=torch.bool)) == 0).all()


def test_label_scores_are_sigmoids_of_length_one_or_a_softmax() -> None:
    logits = rows(N, T, C).requires_grad_()
    released, printed = label_scores(logits), label_scores(logits, activation="softmax")
    for i in range(N):
        for t in range(T):
            values = logits[i, t].tolist()
            sigmoids = [sigmoid(value) for value in values]
            assert released[i, t].tolist() == pytest.approx([s / math.hypot(*sigmoids) for s in sigmoids])
            total = sum(math.exp(value) for value in values)
            assert printed[i, t].tolist() == pytest.approx([math.exp(value) / total for value in values])
    torch.autograd.gradcheck(label_scores, logits)


def test_label_scores_and_their_gradients_are_finite_for_logits_far_from_zero() -> None:
    logits = torch.tensor([[-200.0, -200.0], [200.0, -200.0]], requires_grad=True)
    scores = label_scores(logits)
    (gradient,) = torch.autograd.grad(scores.sum(), logits)
    assert scores.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("sigmoid_first", [False, True])
def test_masked_losses_are_the_sums_of_the_cross_entropies_at_masked_places(sigmoid_first: bool) -> None:
    logits = rows(N, T, V).requires_grad_()

    def losses(x: Tensor) -> Tensor:
        return masked_loss_per_sample(x[MASK], TARGETS, MASK, sigmoid_first=sigmoid_first)

    expected = [sum(sample) for sample in cross_entropies(logits, sigmoid_first=sigmoid_first)]
    assert losses(logits).tolist() == pytest.approx(expected, abs=1e-12)
    torch.autograd.gradcheck(losses, logits)


def test_targets_are_read_at_masked_places_only() -> None:
    logits = rows(int(MASK.sum()), V)
    found = masked_loss_per_sample(logits, TARGETS.where(MASK, -7), MASK)
    assert torch.equal(found, masked_loss_per_sample(logits, TARGETS, MASK))


def test_without_masked_places_the_losses_and_their_gradient_are_zero() -> None:
    logits = rows(0, V).requires_grad_()
    losses = masked_loss_per_sample(logits, TARGETS, torch.zeros(N, T, dtype=torch.bool))
    assert losses.tolist() == [0] * N
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient.shape == (0, V)


def test_the_sigmoid_bounds_the_probability_of_a_word() -> None:
    logits = torch.full((1, V), -1e3)
    logits[0, 2] = 1e3
    mask = torch.tensor([[True, False]])
    found = masked_loss_per_sample(logits, torch.tensor([[2, 2]]), mask, sigmoid_first=True)
    assert math.exp(-found.item()) == pytest.approx(math.e / (math.e + V - 1), rel=1e-6)
    found = masked_loss_per_sample(-logits, torch.tensor([[2, 2]]), mask, sigmoid_first=True)
    assert math.exp(-found.item()) == pytest.approx(1 / (1 + (V - 1) * math.e), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sigmoid_first", [False, True])
def test_masked_losses_of_half_precision_are_worked_out_in_fp32(dtype: torch.dtype, sigmoid_first: bool) -> None:
    logits = (8 * rows(int(MASK.sum()), V)).to(dtype)
    found = masked_loss_per_sample(logits, TARGETS, MASK, sigmoid_first=sigmoid_first)
    assert found.dtype == torch.float32
    assert torch.equal(found, masked_loss_per_sample(logits.float(), TARGETS, MASK, sigmoid_first=sigmoid_first))


@pytest.mark.parametrize("width", [8, 5])
def test_sinusoids_are_sines_and_cosines_of_falling_frequency(width: int) -> None:
    found = sinusoids(torch.arange(4.0)[None, :, None], width)
    assert found.shape == (1, 4, width) and found.dtype == torch.float32
    for place in range(4):
        for column in range(width):
            angle = place / 10_000 ** ((column - column % 2) / width)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert found[0, place, column].item() == pytest.approx(expected, abs=1e-6)
