"""Contrastive losses over the pairs of a batch: InfoNCE, the pairwise sigmoid loss, and the triplet hinge.

Row i of both modalities is a pair, and the rows of other samples are its negatives. A sample that is in the batch more
than once, such as a picture with two of its captions, is no negative of itself: of row i these are
N(i) = {j: identity_j != identity_i}. All losses see cosines c_ij of row i of the one modality and row j of the other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.similarity import cosine_similarity, full_precision


def infonce_loss(x: Tensor, y: Tensor, identities: Tensor | None = None, *, scale: Tensor | float) -> Tensor:
    """Cross-entropy of each row's own pair among it and its negatives, the mean of both directions (Radford et al.,
    2021, Fig. 3).

    With s_ij = scale c_ij, from x to y it is the mean over i of
    -log(exp(s_ii) / (exp(s_ii) + sum over j in N(i) of exp(s_ij))).

    Args:
        x, y: (n, d) embeddings, row i of both being one pair.
        identities: (n,) integers, equal where rows are of the same sample; None where all are different.
        scale: factor of the cosines, the inverse of the temperature.
    """
    with full_precision(x, y) as (x, y):
        own = torch.arange(len(x), device=x.device)
        scores = (scale * cosine_similarity(x, y)).masked_fill(_same_sample(own, identities), -torch.inf)
        return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def sigmoid_loss(
    x: Tensor, y: Tensor, identities: Tensor | None = None, *, scale: Tensor | float, bias: Tensor | float
) -> Tensor:
    """Logistic loss of each pair and of each negative by itself (Zhai et al., 2023, Section 3.2).

    It is -1/n times the sum over i, and over j = i and the j in N(i), of log sigmoid(z_ij (scale c_ij + bias)), with
    z_ij = 1 for j = i and -1 otherwise.

    Args:
        scale: factor of the cosines, the paper's t = exp(t').
        bias: the paper's b, by which the negatives, of which there are so many more, begin as such.
        others: see `infonce_loss`.
    """
    with full_precision(x, y) as (x, y):
        own = torch.arange(len(x), device=x.device)
        logits = scale * cosine_similarity(x, y) + bias
        signs = 2 * torch.eye(len(x), dtype=x.dtype, device=x.device) - 1
        losses = -F.logsigmoid(signs * logits)
        return losses.masked_fill(_same_sample(own, identities), 0.0).sum() / len(x)


def triplet_loss(
    x: Tensor, y: Tensor, identities: Tensor | None = None, *, margin: float, hardest: bool = True
) -> Tensor:
    """Hinge between each pair and its negatives in both directions (Faghri et al., 2018, l_MH and l_SH).

    With [v]+ = max(v, 0), it is the mean over i of max [margin + c_ij - c_ii]+ + max [margin + c_ji - c_ii]+, both over
    the j in N(i): the hardest negative of the batch. The paper's is the sum over i.

    Args:
        hardest: the hardest negative alone, VSE++; else the sums over all of them, the paper's VSE0.
        others: see `infonce_loss`.
    """
    with full_precision(x, y) as (x, y):
        own = torch.arange(len(x), device=x.device)
        cosines = cosine_similarity(x, y)
        pairs = cosines.diagonal()
        without = _same_sample(own, identities) | torch.eye(len(x), dtype=torch.bool, device=x.device)
        there = (margin + cosines - pairs[:, None]).clamp(min=0).masked_fill(without, 0.0)
        back = (margin + cosines - pairs).clamp(min=0).masked_fill(without, 0.0)
        return ((there.amax(1) + back.amax(0)) if hardest else (there.sum(1) + back.sum(0))).mean()


def _same_sample(own: Tensor, identities: Tensor | None) -> Tensor:
    """(n, n) bool: True for two different rows of one sample."""
    identities = own if identities is None else identities
    return (identities[:, None] == identities) & (own[:, None] != own)
