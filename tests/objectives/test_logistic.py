"""Logistic regression against an optimizer that knows no gradients, and its optimality conditions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from xmr_e2e.objectives.logistic import fit_logistic_regression

ROWS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SINGLE = torch.eye(3)[(ROWS[:, 0] * 2 + ROWS[:, 1]).round().long() % 3]
MULTI = (ROWS @ torch.tensor([[1.0, 0], [-1, 2], [0, 1]], dtype=torch.float64) > 0.3).float()


def loss_of(numbers: list[float], labels: Tensor, multi_label: bool, penalty: float) -> float:
    """The loss with loops: numbers are the weights, feature by feature, then the biases."""
    classes = labels.shape[1]
    total = 0.0
    for row, wanted in zip(ROWS.tolist(), labels.tolist()):
        logits = [
            numbers[3 * classes + c] + sum(x * numbers[feature * classes + c] for feature, x in enumerate(row))
            for c in range(classes)
        ]
        if multi_label:
            total += sum(math.log1p(math.exp(-z if y else z)) for z, y in zip(logits, wanted))
        else:
            total += math.log(sum(map(math.exp, logits))) - logits[wanted.index(1)]
    return total / len(ROWS) + penalty / len(ROWS) / 2 * sum(each**2 for each in numbers[: 3 * classes])


@pytest.mark.parametrize(("labels", "multi_label"), [(SINGLE, False), (MULTI, True)], ids=["single", "multi"])
def test_it_is_the_optimum_of_the_loss(labels: Tensor, multi_label: bool) -> None:
    found = fit_logistic_regression(ROWS, labels, penalty=2.0, multi_label=multi_label)
    best = minimize(lambda x: loss_of(x, labels, multi_label, 2.0), [0.0] * 4 * labels.shape[1], method="L-BFGS-B")
    numbers = [*found.weight.flatten().tolist(), *found.bias.tolist()]
    assert loss_of(numbers, labels, multi_label, 2.0) <= best.fun + 1e-9
    assert found.weight.flatten().tolist() == pytest.approx(best.x[: found.weight.numel()], abs=1e-3)


def test_without_a_penalty_worth_the_name_separable_classes_are_told_apart() -> None:
    rows = torch.tensor([[-1.0], [-0.5], [0.5], [1.0]], dtype=torch.float64)
    labels = torch.eye(2)[[0, 0, 1, 1]]
    found = fit_logistic_regression(rows, labels, penalty=1e-6, multi_label=False)
    assert (rows @ found.weight + found.bias).argmax(1).tolist() == [0, 0, 1, 1]


def test_a_class_that_no_sample_has_gets_the_least_probability() -> None:
    found = fit_logistic_regression(ROWS, torch.cat([SINGLE, torch.zeros(40, 1)], 1), penalty=2.0, multi_label=False)
    probabilities = (ROWS @ found.weight + found.bias).softmax(1)
    assert probabilities[:, 3].max() < 0.01 and found.bias.isfinite().all()
