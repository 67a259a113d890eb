"""Adversarial learning between modalities: a discriminator behind gradient reversal (Ganin and Lempitsky, 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """x unchanged; on the way back its gradient is multiplied by -strength.

    Placed between encoders and discriminator, it lets one backward pass minimise `modality_loss` for the
    discriminator and -strength times it for the encoders: ALSCOR's Eq. 33 and 34 in one step.
    """
    reversed_: Tensor = _ReverseGradient.apply(x, strength)
    return reversed_


def reversal_schedule(progress: float) -> float:
    """Strength 2 / (1 + exp(-10 p)) - 1 at progress p in [0, 1] of the training: from 0 to 1 (ACMR's schedule)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def modality_loss(logits: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
    """Cross-entropy of a modality discriminator over any number m of modalities (ALSCOR, Eq. 32, has two).

    logits: for each modality the discriminator's (n_i, m) logits for that modality's samples; the i-th entry's true
    class is i. Returns the mean over modalities of the mean over samples, so that each modality weighs the same
    however many samples it has; guessing gives log m. Eq. 32 sums over modalities, which is m times this.
    Computed in fp32 (fp64 for fp64 logits), whatever autocast is on.

    Raises ValueError if the logits are not m wide.
    """
    entries = list(logits.values()) if isinstance(logits, Mapping) else list(logits)
    return torch.stack([_samples_of(modality, entry, len(entries)) for modality, entry in enumerate(entries)]).mean()


def _samples_of(modality: int, logits: Tensor, modalities: int) -> Tensor:
    if logits.shape[1] != modalities:
        raise ValueError(f"a discriminator with {logits.shape[1]} outputs for {modalities} modalities")
    with torch.autocast(logits.device.type, enabled=False):
        log_probabilities = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=1)
        return -log_probabilities[:, modality].mean()


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grad, None
