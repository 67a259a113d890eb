"""Correspondence autoencoders (Feng et al., 2014): hidden layers that agree and that reconstruct the modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from xmr_e2e.objectives.similarity import full_precision

Variant: TypeAlias = Literal["plain", "cross", "full"]
"""Corr-AE, Corr-Cross-AE or Corr-Full-AE"""


def reconstructions(variant: Variant, modalities: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The reconstructions of a variant: (modality of the hidden layer, modality of the input that is reconstructed)."""
    x, y = modalities
    options: dict[Variant, tuple[tuple[str, str], ...]] = {
        "plain": ((x, x), (y, y)),
        "cross": ((y, x), (x, y)),
        "full": ((x, x), (y, x), (x, y), (y, y)),
    }
    return options[variant]


def correspondence_loss(
    hidden: Mapping[str, Tensor],
    decoded: Mapping[tuple[str, str], Tensor],
    inputs: Mapping[str, Tensor],
    *,
    alpha: float,
    variant: Variant,
) -> dict[str, Tensor]:
    """Correlation of the hidden layers and reconstruction of the inputs (Feng et al., 2014).

    Every error is the squared Euclidean distance of two rows, summed over dimensions and averaged over the n pairs.

    Args:
        hidden: modality -> (n, d), of two; row i of both is one pair.
        decoded: for each (source, target) of `reconstructions`, (n, d_target).
        inputs: modality -> (n, d_target), in the order of `hidden`, what its autoencoder saw. Where a network that
            trains made it, detach it: otherwise it shrinks in order to be reconstructed.
        alpha: share of "correlation", in [0, 1]; the authors took 0.8 for "plain" and "full", and 0.2 for "cross".
        variant: what is reconstructed from what.

    Returns:
        Scalars by modality, the errors of all reconstructions of that modality, "correlation", the error
        between the hidden layers, and "total" = (1 - alpha) (their sum) + alpha correlation, in fp32 (fp64 for fp64
        inputs) whatever autocast is on.

    Raises:
        ValueError: the reconstructions are not those of the variant.
    """
    pairs = reconstructions(variant, tuple(inputs))
    if set(decoded) != set(pairs):
        raise ValueError(f"the variant {variant!r} reconstructs {sorted(pairs)}, not {sorted(decoded)}")
    terms = {
        modality: torch.stack(
            [_error(decoded[source, target], inputs[target]) for source, target in pairs if target == modality]
        ).sum()
        for modality in inputs
    }
    errors = torch.stack([*terms.values()]).sum()
    terms["correlation"] = _error(*hidden.values())
    terms["total"] = (1 - alpha) * errors + alpha * terms["correlation"]
    return terms


def _error(x: Tensor, y: Tensor) -> Tensor:
    with full_precision(x, y) as (x, y):
        return (x - y).square().sum(1).mean()
