"""MRL: multimodal robust learning with noisy labels (Hu et al., 2021): robust clustering, contrast of modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.labels import Labels, multi_hot_labels
from xmr_e2e.objectives.similarity import full_precision
from xmr_e2e.objectives.terms import weighted_terms


def mrl_loss(
    embeddings: Mapping[str, Tensor], centers: Tensor, labels: Labels, *, beta: float, temperature: float
) -> dict[str, Tensor]:
    """beta times the robust clustering of all modalities, and 1 - beta times the contrast between them.

    Args:
        embeddings: modality -> (n, d) of length 1, of two or more; row i of all is one sample.
        centers: (d, c), a column for each class, brought to length 1 here.
        labels: (n,) integer classes or (n, c) multi-hot.
        beta: in [0, 1].
        temperature: divisor of all inner products, tau.

    Returns:
        The scalars "clustering", `robust_clustering_loss` summed over the modalities, "contrast",
        `multimodal_contrast`, and "total". A term of weight 0 is left out.
    """
    with full_precision(centers, *embeddings.values()) as (centers, *rows):
        scores = [each @ F.normalize(centers, dim=0) for each in rows]

        def clustering() -> Tensor:
            losses = [robust_clustering_loss(each, labels, temperature=temperature) for each in scores]
            return torch.stack(losses).sum()

        terms, weighted = weighted_terms(
            {
                "clustering": (beta, clustering),
                "contrast": (1 - beta, lambda: multimodal_contrast(rows, temperature=temperature)),
            }
        )
        return {**terms, "total": torch.stack(weighted).sum()}


def robust_clustering_loss(scores: Tensor, labels: Labels, *, temperature: float) -> Tensor:
    """Mean over samples of log(1 - p_i), p_i being the softmax probability of the sample's own class.

    Cross-entropy, -log p, is steepest where p is small, which is where labels are wrong; log(1 - p) where p is large.
    Samples of several classes have the sum of their probabilities as p; those of all, or of none, have the loss 0. It
    has no least value, as it falls without bound while p goes to 1; inner products of unit vectors over a temperature
    of 1 keep p from there.

    Args:
        scores: (n, c) inner products with the centers.
        labels: (n,) integer classes or (n, c) multi-hot.
        temperature: divisor of the scores.
    """
    with full_precision(scores) as (scores,):
        scores = scores / temperature
        own = multi_hot_labels(labels, scores.shape[1]).to(scores.device) > 0
        own = own & ~own.all(1, keepdim=True)
        # The logarithm of the other classes' share, without 1 - p, which is 0 where p is 1 to rounding.
        others = scores.masked_fill(own, -torch.inf).logsumexp(1)
        return (others - scores.logsumexp(1)).mean()


def multimodal_contrast(embeddings: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Contrast of each item with all others of the batch, whatever their modality; its positives are its own sample's
    items in the other modalities.

    With s = z.z' / temperature, it is -2 times the mean over samples i and modalities v of
    log(sum over u != v of exp(s(z_i^v, z_i^u)) / sum over (j, u) != (i, v) of exp(s(z_i^v, z_j^u))). The released code
    adds the instance- and the pair-level term, which are equal as s is symmetric: hence the 2.

    embeddings: of m >= 2 modalities, (n, d) each, row i of all being one sample.
    """
    with full_precision(*embeddings) as rows:
        modalities, n = len(rows), len(rows[0])
        items = torch.cat(rows)
        itself = torch.eye(len(items), dtype=torch.bool, device=items.device)
        scores = (items @ items.T / temperature).masked_fill(itself, -torch.inf)
        of_sample = scores.view(modalities, n, modalities, n).diagonal(dim1=1, dim2=3)  # (m, m, n)
        return 2 * (scores.logsumexp(1).view(modalities, n) - of_sample.logsumexp(1)).mean()
