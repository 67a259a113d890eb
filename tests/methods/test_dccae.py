"""DCCAE's reconstruction: what is to be reconstructed teaches nobody, and its error reaches networks and towers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.references import LayerTower, build
from xmr_e2e.methods.correlated import sigmoid_network
from xmr_e2e.methods.dccae import Dccae, DccaeModel
from xmr_e2e.methods.stages import StepContext

TOWERS: dict[str, Any] = {"image": LayerTower(dim=6), "text": LayerTower(dim=7)}


def error_of(method: DccaeModel, name: str, rows: Tensor) -> Tensor:
    """The squared error of one modality's autoencoder for rows whose standardised form is a constant target."""
    standard = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
    network: Any = method.networks[name]
    decoded = method.decoders[name](network[1:](standard))
    return (decoded - standard.detach()).square().sum(1).mean()


def test_the_target_of_the_reconstruction_stands_still() -> None:
    method = build(Dccae(**TOWERS, hidden=8, dim=4, reconstruction=2.0))
    assert isinstance(method, DccaeModel)
    method = method.double().train()
    rows = {
        name: torch.randn(20, width, dtype=torch.float64, requires_grad=True)
        for name, width in (("image", 6), ("text", 7))
    }
    context = StepContext(stage="networks", epoch=0, progress=0.0, seed=0)
    terms = method.objective(rows, torch.zeros(20, dtype=torch.int64), context)
    expected = sum(error_of(method, name, each) for name, each in rows.items())
    torch.testing.assert_close(terms["reconstruction"], expected)
    given = list(rows.values())
    for mine, theirs in zip(
        torch.autograd.grad(terms["reconstruction"], given), torch.autograd.grad(expected, given), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
        assert mine.abs().max() > 1e-6


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_a_network_has_as_many_hidden_layers_as_it_is_told(layers: int) -> None:
    linear = [part for part in sigmoid_network(6, 5, layers, 2) if isinstance(part, nn.Linear)]
    widths = [6, *[5] * layers, 2]
    assert [(part.in_features, part.out_features) for part in linear] == list(pairwise(widths))
