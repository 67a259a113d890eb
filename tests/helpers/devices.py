"""Tests run on CPUs, on machines with GPUs too, and those marked `gpu` on a GPU.

A trace is the same to the last bit on a CPU alone, and one GPU cannot hold two processes that talk over NCCL. What is
hidden here is hidden from every process that a test starts, in whichever way.
"""

from __future__ import annotations

import pytest
import torch

GPUS = torch.cuda.device_count()
"""of this machine; asked for without opening them, as long as nobody has"""


def hide_gpus(patch: pytest.MonkeyPatch) -> None:
    """Until the patch is undone: in this process by torch's answers, in others by their environment."""
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cuda, "device_count", lambda: 0)
