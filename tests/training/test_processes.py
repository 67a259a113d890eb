"""The module within what Accelerate has made of it."""

from __future__ import annotations

import sys

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tests.helpers.recipes import fresh_accelerator
from xmr_e2e.training.processes import unwrapped


def test_a_prepared_module_is_found_without_deepspeed_and_is_as_before_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Accelerate's own way imports DeepSpeed wherever it is installed."""
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    torch.manual_seed(0)
    module, rows = nn.Linear(30, 20), torch.randn(4, 30)
    expected = module(rows)
    with fresh_accelerator():
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        prepared = accelerator.prepare(module)
        assert unwrapped(accelerator, prepared) is module
        assert not prepared(rows).equal(expected)  # the precision is still around its forward pass
        assert unwrapped(accelerator, prepared, at_end=True) is module
        assert unwrapped(accelerator, prepared, at_end=True) is module  # of a stage that follows it
    assert module(rows).equal(expected)
    assert not {"forward", "_original_forward"} & vars(module).keys()
