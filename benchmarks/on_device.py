"""The device that benchmarks run on: a GPU, or the CPU where there is none."""

from __future__ import annotations

import gc

import torch
from accelerate.state import AcceleratorState


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def wait() -> None:
    """Return when the device has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def forget() -> None:
    """Let go of a measurement's memory and of Accelerate's state, which refuses the precision of the next."""
    AcceleratorState._reset_state(reset_partial_state=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
