"""A step that is refused on the device: what it would have changed stays as it was, and no host is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn


class BuffersBefore:
    """The buffers that a step may change, as they are before it: those of modules that are in training."""

    def __init__(self, model: nn.Module) -> None:
        self._groups: dict[torch.dtype, list[tuple[nn.Module, str]]] = {}
        for module in model.modules():
            if module.training:
                for name, buffer in module.named_buffers(recurse=False):
                    self._groups.setdefault(buffer.dtype, []).append((module, name))
        self._before = {dtype: _flat(self._of(dtype)) for dtype in self._groups}

    @torch.no_grad()
    def put_back(self, refused: Tensor) -> None:
        """Give the buffers these values again where the boolean of no dimension is true."""
        for dtype, before in self._before.items():
            buffers = self._of(dtype)
            kept = torch.where(refused, before, _flat(buffers)).split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(kept, buffers)])

    def _of(self, dtype: torch.dtype) -> list[Tensor]:
        return [getattr(module, name) for module, name in self._groups[dtype]]


class ScalerBefore:
    """The scale of fp16's gradients as it is before a step; nothing where there is no scaler."""

    def __init__(self, scaler: Any) -> None:
        self._values = [] if scaler is None else [scaler._scale, scaler._growth_tracker]
        self._before = [value.clone() for value in self._values]

    def put_back(self, refused: Tensor) -> None:
        for value, before in zip(self._values, self._before):
            value.copy_(torch.where(refused, before, value))


def spoil(parameters: Sequence[nn.Parameter], refused: Tensor) -> None:
    """Let fp16's scaler, which has not looked at the gradients yet, leave a step out that is refused."""
    gradient = parameters[0].grad
    assert gradient is not None
    gradient.masked_fill_(refused, torch.nan)


def step_unless(optimizer: AcceleratedOptimizer, refused: Tensor) -> None:
    """The step of a fused optimizer, which looks on the device whether it has to leave it out."""
    own = optimizer.optimizer
    own.found_inf = refused.float()
    optimizer.step()
    del own.found_inf


def _flat(buffers: Sequence[Tensor]) -> Tensor:
    return torch.cat([buffer.flatten() for buffer in buffers])
