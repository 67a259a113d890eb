"""Options that make a device faster: the layout of weights, TF32, compiled towers, the choice of convolutions."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch
from torch import nn

from xmr_e2e.devices import uses_gpu
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.runs.experiment import Train

_COMPILERS = ("g++", "clang++")


def check_compile(train: Train) -> None:
    """Raise XmrError where --train.compile is asked for, and what it needs is not there or does not go with it."""
    if not train.compile:
        return
    if train.zero:
        raise XmrError("--train.compile needs --train.zero 0: DeepSpeed takes the parameters apart at each layer")
    compilers = (os.environ["CXX"],) if "CXX" in os.environ else _COMPILERS
    if not any(map(shutil.which, compilers)):
        raise XmrError(
            f"--train.compile needs a C++ compiler, and there is no {' or '.join(compilers)}: install one, name it in "
            "CXX, or leave the option out"
        )
    if uses_gpu() and find_spec("triton") is None:
        raise XmrError("--train.compile needs the package triton on a GPU: pip install triton, or leave the option out")


def set_up_device(train: Train) -> None:
    """Let the GPU's products and convolutions be as fast as the options allow; without effect on a CPU. Convolutions
    are in TF32 in any case, as torch has them."""
    if not uses_gpu():
        return
    torch.set_float32_matmul_precision("high" if train.tf32 else "highest")
    # Each new shape is tried in several ways: budgets give new shapes again and again.
    torch.backends.cudnn.benchmark = train.micro_pixels is None and train.micro_tokens is None


def set_up_towers(method: Method, train: Train) -> None:
    """Lay out the weights of convolutions as --train.memory-format has it, and compile the towers where that is asked
    for. Names and values of weights stay as they are."""
    for tower in method.towers.values():
        for layer in tower.modules() if is_channels_last(train) else ():
            if isinstance(layer, nn.Conv2d):  # not those of clips, whose weights have five dimensions
                layer.to(memory_format=torch.channels_last)
        if train.compile and not _has_recurrence(tower):
            tower.compile()


def is_channels_last(train: Train) -> bool:
    """True where the channels of a pixel lie beside each other."""
    return train.memory_format == "channels_last" or (train.memory_format == "auto" and uses_gpu())


def _has_recurrence(tower: nn.Module) -> bool:
    """True for an LSTM or GRU in it, whose library has compiled it already and which torch.compile leaves alone."""
    return any(isinstance(module, nn.RNNBase) for module in tower.modules())
