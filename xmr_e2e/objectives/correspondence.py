"""Correspondence autoencoders (Feng et al., 2014): hidden layers that agree and that reconstruct the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from xmr_e2e.objectives.similarity import full_precision

Variant: TypeAlias = Literal["plain", "cross", "full"]
"""Corr-AE, Corr-Cross-AE or Corr-Full-AE"""

RECONSTRUCTIONS: Mapping[Variant, tuple[tuple[str, str], ...]] = {
    "plain": (("image", "image"), ("text", "text")),
    "cross": (("text", "image"), ("image", "text")),
    "full": (("image", "image"), ("text", "image"), ("image", "text"), ("text", "text")),
}
"""The reconstructions of each variant: (modality of the hidden layer, modality of the input that is reconstructed)."""


def correspondence_loss(
    hidden_image: Tensor,
    hidden_text: Tensor,
    reconstructions: Mapping[tuple[str, str], Tensor],
    inputs: Mapping[str, Tensor],
    *,
    alpha: float,
    variant: Variant,
) -> dict[str, Tensor]:
    """Correlation of the hidden layers and reconstruction of the inputs (Feng et al., 2014).

    Every error is the squared Euclidean distance of two rows, summed over dimensions and averaged over the n pairs.

    Args:
        hidden_image, hidden_text: (n, d), row i of both being one pair.
        reconstructions: for each (source, target) of RECONSTRUCTIONS[variant], (n, d_target).
        inputs: modality -> (n, d_target), what its autoencoder saw. Where a network that trains made it, detach it:
            otherwise it shrinks in order to be reconstructed.
        alpha: share of "correlation", in [0, 1]; the authors took 0.8 for "plain" and "full", and 0.2 for "cross".
        variant: what is reconstructed from what.

    Returns:
        The scalars "image" and "text", the errors of all reconstructions of that modality, "correlation", the error
        between the hidden layers, and "total" = (1 - alpha) (image + text) + alpha correlation, in fp32 (fp64 for fp64
        inputs) whatever autocast is on.

    Raises:
        ValueError: the reconstructions are not those of the variant.
    """
    pairs = RECONSTRUCTIONS[variant]
    if set(reconstructions) != set(pairs):
        raise ValueError(f"the variant {variant!r} reconstructs {sorted(pairs)}, not {sorted(reconstructions)}")
    terms = {
        modality: torch.stack(
            [_error(reconstructions[source, target], inputs[target]) for source, target in pairs if target == modality]
        ).sum()
        for modality in ("image", "text")
    }
    terms["correlation"] = _error(hidden_image, hidden_text)
    terms["total"] = (1 - alpha) * (terms["image"] + terms["text"]) + alpha * terms["correlation"]
    return terms


def _error(x: Tensor, y: Tensor) -> Tensor:
    with full_precision(x, y) as (x, y):
        return (x - y).square().sum(1).mean()
