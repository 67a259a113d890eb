"""DCCAE: deep canonically correlated autoencoders (Wang et al., 2015), outputs that correlate and that reconstruct."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xmr_e2e.objectives.cca import correlation_loss
from xmr_e2e.objectives.similarity import full_precision
from xmr_e2e.objectives.terms import weighted_terms


def dccae_loss(
    outputs: Mapping[str, Tensor],
    decoded: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    *,
    reconstruction: float,
    ridge: float = 1e-3,
    square_ridge: float = 0.0,
) -> dict[str, Tensor]:
    """Minus the total correlation, and the error of both autoencoders (Wang et al., 2015, Section 2.3).

    Args:
        outputs: modality -> (n, d), of two; row i of both is one pair.
        decoded: modality -> (n, d_inputs), what its decoder makes of its outputs. Of no use where the weight is 0.
        inputs: modality -> (n, d_inputs), what its network saw. Where another network that trains made it, detach it:
            otherwise it shrinks in order to be reconstructed.
        reconstruction: weight of the errors, lambda.
        ridge, square_ridge: of the correlation, as `correlation_loss` has them.

    Returns:
        The scalars "correlation", minus the sum of the canonical correlations, "reconstruction", the squared distance
        of what was decoded from its input, summed over dimensions and modalities and averaged over the n pairs, and
        "total" = correlation + reconstruction * errors. A term of weight 0 is left out.
    """
    x, y = outputs.values()
    terms, weighted = weighted_terms(
        {
            "correlation": (1.0, lambda: correlation_loss(x, y, ridge=ridge, square_ridge=square_ridge)),
            "reconstruction": (reconstruction, lambda: _errors(decoded, inputs)),
        }
    )
    return {**terms, "total": torch.stack(weighted).sum()}


def _errors(decoded: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    errors = []
    for name, rows in decoded.items():
        with full_precision(rows, inputs[name]) as (found, wanted):
            errors.append((found - wanted).square().sum(1).mean())
    return torch.stack(errors).sum()
