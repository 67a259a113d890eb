"""On a machine with a GPU the tests use none, in this process and in those that they start."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from accelerate.utils import is_cuda_available

from tests.helpers.devices import hide_gpus
from xmr_e2e.runs.experiment import Train
from xmr_e2e.training.processes import make_accelerator


def test_a_single_gpu_is_hidden_from_this_process_and_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.MonkeyPatch.context() as patch:
        hide_gpus(patch)
        assert not torch.cuda.is_available() and not is_cuda_available()
        assert make_accelerator(Train()).device == torch.device("cpu")
        program = "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))"
        assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "''\n"
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1
