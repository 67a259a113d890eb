"""Logistic regression: the optimum of a convex loss, found by L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_ITERATIONS = 500
"""of L-BFGS; some 100 do for 1,280 standardized features and ten classes"""


@dataclass(frozen=True)
class LogisticRegression:
    """A fitted classifier: rows @ weight + bias are its logits."""

    weight: Tensor
    """(d, c) float64"""
    bias: Tensor
    """(c,) float64"""


def fit_logistic_regression(rows: Tensor, labels: Tensor, *, penalty: float, multi_label: bool) -> LogisticRegression:
    """The classifier of the least sum of cross-entropies plus penalty / 2 times the sum of the squared weights.

    Args:
        rows: (n, d) float64, standardized, so that one penalty suits all features.
        labels: (n, c) multi-hot.
        multi_label: a binary decision for each class, instead of one among all.
    """
    weight = rows.new_zeros(rows.shape[1], labels.shape[1]).requires_grad_()
    bias = rows.new_zeros(labels.shape[1]).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )
    labels = labels.to(rows)

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = (
            cross_entropy(rows @ weight + bias, labels, multi_label) + penalty / 2 / len(rows) * weight.square().sum()
        )
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return LogisticRegression(weight.detach(), bias.detach())


def cross_entropy(logits: Tensor, labels: Tensor, multi_label: bool) -> Tensor:
    """The mean over samples: of the sum over the classes' binary losses, or of the loss of the one class."""
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)
    return F.cross_entropy(logits, labels)
