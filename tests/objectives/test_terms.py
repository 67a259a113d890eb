"""Terms and their weights: one of weight 0 is not there at all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xmr_e2e.objectives.terms import weighted_terms


def never() -> Tensor:
    raise AssertionError("a term of weight 0 was computed")


def test_each_term_stands_by_its_name_and_times_its_weight_in_the_order_given() -> None:
    terms, weighted = weighted_terms({"b": (0.5, lambda: torch.tensor(4.0)), "a": (3.0, lambda: torch.tensor(7.0))})
    assert list(terms) == ["b", "a"] and [term.item() for term in terms.values()] == [4.0, 7.0]
    assert [term.item() for term in weighted] == [2.0, 21.0]


def test_a_term_of_weight_0_is_neither_computed_nor_there() -> None:
    terms, weighted = weighted_terms({"a": (0.0, never), "b": (1.0, lambda: torch.tensor(2.0))})
    assert list(terms) == ["b"] and len(weighted) == 1


def test_a_term_is_not_changed_by_a_weight_of_1() -> None:
    value = torch.tensor(0.1, dtype=torch.float32, requires_grad=True)
    _, (weighted,) = weighted_terms({"a": (1.0, lambda: value * 3)})
    assert torch.equal(weighted, value * 3)
    (gradient,) = torch.autograd.grad(weighted, value)
    assert gradient.item() == 3.0


def test_weights_that_are_all_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"all weights are 0 \(a, b\)"):
        weighted_terms({"a": (0.0, never), "b": (0, never)})
