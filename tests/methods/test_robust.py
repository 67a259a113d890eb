"""The robust loss of the methods that learn labels by a classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.small_methods import DATASET, IMAGE, TEXT, batch
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.deep_sm import DeepSm
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives import classification

DIM = {"dim": 4}
METHODS: list[Any] = [
    Acmr(image=IMAGE, text=TEXT, dim=4),
    Alscor(image=IMAGE, text=TEXT, dim=4),
    DeepSm(image=IMAGE, text=TEXT),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda each: type(each).__name__)
def test_the_classifiers_loss_is_the_generalized_one(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch()
    given: list[float] = []
    original = classification.generalized_cross_entropy

    def look(log_p: torch.Tensor, q: float) -> torch.Tensor:
        given.append(q)
        return original(log_p, q)

    monkeypatch.setattr(classification, "generalized_cross_entropy", look)
    totals = []
    for q in (0.0, 0.7):
        torch.manual_seed(0)
        network = replace(method, q=q).build(DATASET).eval()
        context = StepContext("training", 0, 0.5, 0)
        totals.append(network.objective(network.represent(made.inputs), made.labels, context)["total"])
    assert set(given) == {0.7} and len(given) == 2
    assert not torch.isclose(*totals)
