"""SDML, scalable deep multimodal learning (Hu et al., 2019): each modality alone, towards one fixed projection."""

from __future__ import annotations

from torch import Tensor

from xmr_e2e.objectives.labels import Labels, multi_hot_labels
from xmr_e2e.objectives.similarity import full_precision, mean_row_norm


def sdml_loss(
    z: Tensor, reconstruction: Tensor, inputs: Tensor, labels: Labels, prior: Tensor, *, alpha: float = 0.5
) -> dict[str, Tensor]:
    """Reconstruction and labels of one modality (Hu et al., 2019, as in the released code).

    Args:
        z: (n, d) embeddings of one modality, of length 1.
        reconstruction: (n, d_m) the decoder's output.
        inputs: (n, d_m) what the encoder saw. Where a network that trains made it, detach it: otherwise it shrinks in
            order to be reconstructed. The released decoder ends in a normalisation to length 1: with it, so must these.
        labels: (n,) integer classes or (n, c) multi-hot. Rows without labels take part in the reconstruction only.
        prior: (d, c) the fixed P, see `orthogonal_prior`.
        alpha: share of "reconstruction", in [0, 1].

    Returns:
        The scalars "reconstruction", the mean of the rows' |reconstruction - input|, "label", the mean of the labelled
        rows' |P'z - y| (0 if there are none), neither squared, and "total" = alpha * reconstruction +
        (1 - alpha) * label, in fp32 (fp64 for fp64 inputs) whatever autocast is on.

    Raises:
        ValueError: labels that are not of c classes.
    """
    with full_precision(z, reconstruction, inputs, prior) as (z, reconstruction, inputs, prior):
        truth = multi_hot_labels(labels, prior.shape[1]).to(z)
        labeled = truth.any(1, keepdim=True)
        residual = (z @ prior - truth) * labeled
        terms = {
            "reconstruction": mean_row_norm(reconstruction - inputs),
            "label": mean_row_norm(residual) * len(z) / labeled.sum().clamp(min=1),
        }
        return {**terms, "total": alpha * terms["reconstruction"] + (1 - alpha) * terms["label"]}
