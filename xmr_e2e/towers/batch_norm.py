"""Batch normalization that stands still while the rest of a network is trained."""

from __future__ import annotations

from typing import Self

from torch import nn


class FreezableBatchNorm(nn.Module):
    """A network whose batch normalization can be left in evaluation mode in training: it normalizes by the statistics
    that its weights came with, and its scale and shift still learn."""

    freezes_batch_norm = False

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.freezes_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
