"""Contrastive losses against loops over the pairs in Python's own numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.helpers.contrastive_losses import (
    infonce_reference,
    sigmoid_reference,
    triplet_reference,
)
from xmr_e2e.objectives.contrastive import infonce_loss, sigmoid_loss, triplet_loss

IDENTITIES = {
    "all different": [7, 3, 5, 0, 9],
    "two of one": [7, 3, 7, 0, 9],
    "two pairs of one": [7, 3, 7, 3, 9],
    "all of one": [4, 4, 4, 4, 4],
}
KINDS = pytest.mark.parametrize("kind", IDENTITIES)


def pairs(n: int = 5, d: int = 4) -> list[Tensor]:
    return list(torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))


def identities_of(kind: str) -> Tensor:
    return torch.tensor(IDENTITIES[kind])


@KINDS
@pytest.mark.parametrize("scale", [1.0, 1 / 0.07])
def test_infonce_equals_loops_over_the_pairs(kind: str, scale: float) -> None:
    x, y = pairs()
    expected = infonce_reference(x.tolist(), y.tolist(), IDENTITIES[kind], scale)
    assert infonce_loss(x, y, identities_of(kind), scale=scale).item() == pytest.approx(expected, abs=1e-12)


@KINDS
@pytest.mark.parametrize("bias", [-10.0, 0.5])
def test_the_sigmoid_loss_equals_loops_over_the_pairs(kind: str, bias: float) -> None:
    x, y = pairs()
    expected = sigmoid_reference(x.tolist(), y.tolist(), IDENTITIES[kind], 3.0, bias)
    assert sigmoid_loss(x, y, identities_of(kind), scale=3.0, bias=bias).item() == pytest.approx(expected, abs=1e-12)


@KINDS
@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("margin", [0.05, 0.2, 2.0])
def test_the_triplet_hinge_equals_loops_over_the_pairs(kind: str, hardest: bool, margin: float) -> None:
    x, y = pairs()
    expected = triplet_reference(x.tolist(), y.tolist(), IDENTITIES[kind], margin, hardest)
    found = triplet_loss(x, y, identities_of(kind), margin=margin, hardest=hardest)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_without_identities_all_rows_are_different_samples() -> None:
    x, y = pairs()
    different = identities_of("all different")
    assert infonce_loss(x, y, scale=3.0) == infonce_loss(x, y, different, scale=3.0)
    assert sigmoid_loss(x, y, scale=3.0, bias=-1.0) == sigmoid_loss(x, y, different, scale=3.0, bias=-1.0)
    assert triplet_loss(x, y, margin=0.2) == triplet_loss(x, y, different, margin=0.2)


def losses(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor, identities: Tensor) -> dict[str, Tensor]:
    return {
        "infonce": infonce_loss(x, y, identities, scale=scale),
        "sigmoid": sigmoid_loss(x, y, identities, scale=scale, bias=bias),
        "triplet": triplet_loss(x, y, identities, margin=0.5),
        "all negatives": triplet_loss(x, y, identities, margin=0.5, hardest=False),
    }


@KINDS
@pytest.mark.parametrize("name", ["infonce", "sigmoid", "triplet", "all negatives"])
def test_gradients_are_those_of_differences(name: str, kind: str) -> None:
    parts = [*pairs(), torch.tensor(2.0, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)]
    parts = [part.requires_grad_() for part in parts]
    assert torch.autograd.gradcheck(lambda *given: losses(*given, identities_of(kind))[name], parts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(dtype: torch.dtype) -> None:
    x, y = (rows.to(dtype).requires_grad_() for rows in pairs())
    whole = [rows.detach().float() for rows in (x, y)]
    scale, bias, same = torch.tensor(100.0), torch.tensor(-10.0), identities_of("two of one")
    for name, loss in losses(x, y, scale, bias, same).items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(losses(*whole, scale, bias, same)[name].item(), abs=1e-6), name
        loss.backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_rows_of_zeros_and_of_equals_have_finite_gradients() -> None:
    x = torch.zeros(4, 3, requires_grad=True)
    y = torch.ones(4, 3, requires_grad=True)
    found = losses(x, y, torch.tensor(100.0), torch.tensor(-10.0), torch.arange(4))
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert x.grad is not None and y.grad is not None
    assert x.grad.isfinite().all() and y.grad.isfinite().all()
    assert found["infonce"].item() == pytest.approx(math.log(4))
