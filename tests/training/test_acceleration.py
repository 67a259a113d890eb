"""Layouts of weights and compiled towers: the same figures within rounding, and the same files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.small_methods import batch, build
from tests.helpers.stepped import MOVING, Trained
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.methods.finite import exact_products
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.models.weights import separated
from xmr_e2e.runs.experiment import Train
from xmr_e2e.training.acceleration import check_compile, is_channels_last, set_up_towers

CHANNELS_LAST = Train(memory_format="channels_last")


def shallow() -> Method:
    """With one residual block, since a compiler takes seconds for each."""
    method = build("dscmr")
    network: Any = method.towers["image"].network
    network[7] = nn.Conv2d(32, 256, 1)
    del network[5:7]
    return method


def terms_and_gradients(method: Method) -> dict[str, torch.Tensor]:
    terms = method(batch(), StepContext(progress=0.5, seed=3))
    terms["total"].backward()
    gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in (terms | gradients).items()}


def assert_like(method: Method, plain: Method) -> None:
    """The same terms, gradients and names of weights, but for rounding."""
    assert list(method.state_dict()) == list(plain.state_dict())
    expected = terms_and_gradients(plain)
    for name, value in terms_and_gradients(method).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_a_layout_changes_neither_losses_nor_gradients() -> None:
    plain, other = build("dscmr"), build("dscmr")
    before = {name: value.clone() for name, value in separated(dict(plain.named_parameters())).items()}
    set_up_towers(other, CHANNELS_LAST)
    weights = [m.weight for m in other.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[1] > 1]
    assert weights and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert_like(other, plain)
    saved = separated(other.state_dict())
    assert all(torch.equal(saved[name], value) and saved[name].is_contiguous() for name, value in before.items())


def test_convolutions_of_clips_keep_their_layout() -> None:
    method = build("dscmr")
    method.towers["image"] = nn.Conv3d(3, 4, 2)
    set_up_towers(method, CHANNELS_LAST)
    assert method.towers["image"].weight.is_contiguous()  # type: ignore[operator, union-attr]


def test_on_a_cpu_weights_stay_as_they_are_unless_it_is_said() -> None:
    assert not is_channels_last(Train()) and is_channels_last(CHANNELS_LAST)


@pytest.mark.parametrize("kind", MOVING)
def test_a_training_goes_on_in_another_layout(kind: str, tiny_shards: Path) -> None:
    """As on a machine without a GPU, of a run that began on one."""
    plain, other = (Trained(tiny_shards, optimizer=MOVING[kind]) for _ in range(2))
    set_up_towers(other.method, CHANNELS_LAST)
    plain.step()
    other.method.load_state_dict(plain.method.state_dict())
    other.stepper.optimizer.load_state_dict(copy.deepcopy(plain.stepper.optimizer.state_dict()))
    for trained in (plain, other):
        trained.step()
    for (name, one), two in zip(plain.method.named_parameters(), other.method.parameters()):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.slow
def test_compiled_towers_give_the_same_and_have_the_same_names() -> None:
    plain, other = shallow(), shallow()
    set_up_towers(other, Train(compile=True))
    assert all(tower._compiled_call_impl is not None for tower in other.towers.values())
    assert_like(other, plain)
    plain.load_state_dict(other.state_dict())


@pytest.mark.slow
def test_recurrent_towers_are_left_alone() -> None:
    method = build("semantic_sharing")
    set_up_towers(method, Train(compile=True))
    assert [tower._compiled_call_impl is None for tower in method.towers.values()] == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"zero": 1}, "--train.compile needs --train.zero 0"), ({}, "there is no no-such-compiler")],
)
def test_what_compiling_needs_is_said(options: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_compile(Train(**options))
    with pytest.raises(XmrError, match=message):
        check_compile(Train(compile=True, **options))


def test_losses_are_in_fp32_where_networks_are_in_tf32() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with exact_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
