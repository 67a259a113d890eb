"""DCCAE's loss against loops over the pairs and an eigenvalue decomposition of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xmr_e2e.objectives.dccae import dccae_loss

N, D = 12, 3
WIDTHS = {"image": 6, "text": 4}


def draw(width: int, seed: int) -> Tensor:
    return torch.randn(N, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OUTPUTS = {"image": draw(D, 0), "text": draw(D, 1)}
DECODED = {name: draw(width, 2) for name, width in WIDTHS.items()}
INPUTS = {name: draw(width, 3) for name, width in WIDTHS.items()}


def correlation(x: Any, y: Any, ridge: float) -> float:
    """The sum of the roots of the eigenvalues of Sxx^-1 Sxy Syy^-1 Syx."""
    x, y = x - x.mean(0), y - y.mean(0)
    xx, yy, xy = (sum(np.outer(a, b) for a, b in zip(one, other)) / (N - 1) for one, other in [(x, x), (y, y), (x, y)])
    product = np.linalg.inv(xx + ridge * np.eye(D)) @ xy @ np.linalg.inv(yy + ridge * np.eye(D)) @ xy.T
    return float(np.sqrt(np.linalg.eigvals(product).real.clip(0)).sum())


def errors() -> float:
    total = 0.0
    for name, width in WIDTHS.items():
        for i in range(N):
            total += sum((DECODED[name][i, k].item() - INPUTS[name][i, k].item()) ** 2 for k in range(width)) / N
    return total


@pytest.mark.parametrize("weight", [1e-3, 2.0])
@pytest.mark.parametrize("ridge", [1e-3, 0.1])
def test_both_terms_equal_loops(weight: float, ridge: float) -> None:
    found = dccae_loss(OUTPUTS, DECODED, INPUTS, reconstruction=weight, ridge=ridge)
    correlated = -correlation(OUTPUTS["image"].numpy(), OUTPUTS["text"].numpy(), ridge)
    expected = {"correlation": correlated, "reconstruction": errors(), "total": correlated + weight * errors()}
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-9)


def test_without_reconstruction_nothing_has_to_be_decoded() -> None:
    found = dccae_loss(OUTPUTS, {}, INPUTS, reconstruction=0)
    assert found.keys() == {"correlation", "total"} and torch.equal(found["correlation"], found["total"])


def test_gradients() -> None:
    def total(*rows: Tensor) -> Tensor:
        image, text, *decoded = rows
        found = dccae_loss(
            {"image": image, "text": text}, dict(zip(WIDTHS, decoded)), INPUTS, reconstruction=0.5, square_ridge=1e-3
        )
        return found["total"]

    rows = [*OUTPUTS.values(), *DECODED.values()]
    assert torch.autograd.gradcheck(total, [each.clone().requires_grad_() for each in rows])
