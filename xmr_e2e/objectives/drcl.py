"""Deep reversible consistency learning (DRCL, IEEE Transactions on Multimedia, 2025), one modality at a time.

First, selective prior learning: `spl_loss` trains each modality's encoder with a matrix W, and W of the modality with
the highest mean `confidence` becomes the prior. Then reversible semantic consistency: `rsc_loss` trains each
modality's encoder towards that prior.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.classification import generalized_cross_entropy
from xmr_e2e.objectives.labels import Labels, multi_hot_labels
from xmr_e2e.objectives.similarity import cosine_similarity, full_precision
from xmr_e2e.objectives.terms import weighted_terms


def confidence(z: Tensor, labels: Labels, W: Tensor) -> Tensor:
    """p_j = softmax(z_j W) · y_j, the probability given to the sample's classes (Eq. 1); (n,), each in [0, 1].

    z: (n, d). labels: (n,) integer classes or (n, c) multi-hot. W: (d, c). For several labels it is the sum of their
    probabilities, for none 0. The mean over the training samples is the quality score of W (Eq. 2).
    """
    with full_precision(z, W) as (z, W):
        return (F.softmax(z @ W, dim=1) * multi_hot_labels(labels, W.shape[1]).to(z)).sum(1)


def spl_loss(z: Tensor, labels: Labels, W: Tensor, *, mu: float) -> Tensor:
    """Selective prior learning: the mean over samples of (1 - p_j^mu) / mu (Eq. 1), p_j being the `confidence`.

    A generalised cross-entropy: -log p_j for mu -> 0, 1 - p_j for mu = 1. The paper lets mu rise over the epochs to 1,
    and tries 2 as well.

    Args:
        z: (n, d) embeddings of one modality, of length 1.
        labels: (n,) integer classes or (n, c) multi-hot.
        W: (d, c) the modality's transformation matrix, trained with its encoder.
        mu: above 0.

    Returns:
        A scalar, in fp32 (fp64 for fp64 inputs) whatever autocast is on. Its gradient is finite for any p_j; samples
        without labels have none.

    Raises:
        ValueError: mu that is not above 0, or labels that are not of c classes.
    """
    with full_precision(z, W) as (z, W):
        return _spl_of_logits(z @ W, multi_hot_labels(labels, W.shape[1]).to(z), mu)


def rsc_loss(
    z: Tensor,
    labels: Labels,
    prior: Tensor,
    *,
    mu: float,
    mix: float = 0.9,
    permutation: Tensor | None = None,
    label: float = 1.0,
    alpha: float = 0.1,
    beta: float = 0.1,
) -> dict[str, Tensor]:
    """Reversible semantic consistency of one modality with the prior (Eq. 3-8).

    Args:
        z: (n, d) embeddings of one modality, of length 1.
        labels: (n,) integer classes or (n, c) multi-hot. Sample j's label vector y_j is mixed as its embedding is, and
            not normalised: with several labels, its recast representation is the sum of its classes' ones.
        prior: (d, c) the selected W; it is frozen, no gradient reaches it.
        mu: as in `spl_loss`.
        mix: lambda of Eq. 3: z~_j = mix z_j + (1 - mix) z_r(j), y~_j likewise; z~ is not brought to length 1 again.
        permutation: (n,) r, a permutation of 0 .. n - 1; None mixes nothing.
        label: weight of "label", to which Eq. 8 gives none.
        alpha: weight of "discrimination".
        beta: weight of "invariance".

    Returns:
        The scalars "label" (Eq. 7: that of `spl_loss`, for z~, y~ and the prior), "discrimination" (Eq. 6),
        "invariance" (Eq. 5, mean over samples and dimensions), those of weight 0 left out, and their weighted sum
        "total" (Eq. 8), in fp32 (fp64 for fp64 inputs) whatever autocast is on.

    Raises:
        ValueError: as for `spl_loss`.
    """
    with full_precision(z, prior.detach()) as (z, prior):
        truth = multi_hot_labels(labels, prior.shape[1]).to(z)
        if permutation is not None:
            z, truth = (mixed(rows, permutation, mix=mix) for rows in (z, truth))
        recast = recast_labels(truth, prior)
        terms, weighted = weighted_terms(
            {
                "label": (label, lambda: _spl_of_logits(z @ prior, truth, mu)),
                "discrimination": (alpha, lambda: _discrimination(z, recast)),
                "invariance": (beta, lambda: F.mse_loss(z, recast)),
            }
        )
        return {**terms, "total": reduce(torch.add, weighted)}


def mixed(rows: Tensor, permutation: Tensor, *, mix: float) -> Tensor:
    """mix x_j + (1 - mix) x_r(j) of each row, r being the permutation (Eq. 3): (n, .) and (n,) -> (n, .)."""
    return mix * rows + (1 - mix) * rows[permutation]


def recast_labels(labels: Tensor, prior: Tensor) -> Tensor:
    """The modality-invariant representations R = Y P^+ that the prior maps back to the labels, R P = Y (Eq. 4).

    labels: (n, c) multi-hot or mixed. prior: (d, c). Returns (n, d) of the labels' type, from a pseudo-inverse in fp64.
    """
    inverse: Tensor = torch.linalg.pinv(prior.double())
    return labels @ inverse.to(labels)


def _spl_of_logits(logits: Tensor, labels: Tensor, mu: float) -> Tensor:
    """The mean over samples, p being the probability given to all labels of a sample together."""
    if not mu > 0:
        raise ValueError(f"mu must be above 0, not {mu}")
    labeled = labels.any(1)
    # Without any label log p is minus infinity; those samples have p^mu = 0 put in below.
    weights = labels.where(labeled[:, None], 1).log()
    log_p = torch.logsumexp(F.log_softmax(logits, dim=1) + weights, dim=1)
    return generalized_cross_entropy(log_p, mu).where(labeled, 1 / mu).mean()


def _discrimination(z: Tensor, recast: Tensor) -> Tensor:
    """Eq. 6, with the released code's factor of two on each cosine."""
    within = 2 * cosine_similarity(recast, recast) - 2 * cosine_similarity(z, z)
    across = 2 * cosine_similarity(recast, z)
    return within.square().mean() + (across - across.T).square().mean()
