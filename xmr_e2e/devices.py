"""The device of a training."""

from __future__ import annotations

import os

import torch


def uses_gpu() -> bool:
    """True where the training runs on GPUs: there are some, and `accelerate launch --cpu` was not asked for."""
    return torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "false").lower() not in ("true", "1")


def gpu_count() -> int:
    """GPUs on which trainings run; 0 where they run on the CPU."""
    return torch.cuda.device_count() if uses_gpu() else 0
