"""Semantic sharing: labels, and masked words and objects, predicted from places (Yang et al., 2021).

A place is a region of an image or a word of a text; a sample has t of them, some of which may be padding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.labels import Labels, multi_hot_labels, share_a_label
from xmr_e2e.objectives.similarity import full_precision, pair_negative_log_likelihood


def label_scores(logits: Tensor, *, activation: Literal["sigmoid", "softmax"] = "sigmoid") -> Tensor:
    """Class scores of each place, all of one scale: (..., c) logits -> (..., c) scores in [0, 1].

    "sigmoid": brought to length 1, as in the released code; "softmax": summing to 1, as printed (below Eq. 4).
    """
    with full_precision(logits) as (logits,):
        return F.softmax(logits, dim=-1) if activation == "softmax" else F.normalize(logits.sigmoid(), dim=-1)


def pool_scores(scores: Tensor, mask: Tensor, *, over: Literal["real", "all"] = "real") -> Tensor:
    """Mean over a sample's places: scores (n, t, c), mask (n, t), True where there is something -> (n, c).

    "real": over the places of the mask; zeros where a sample has none. "all": over all t, as the released code does,
    so that the padding of a batch weighs in.
    """
    with full_precision(scores) as (scores,):
        if over == "all":
            return scores.mean(1)
        # where, not a product: padding may hold anything, NaN included.
        return scores.where(mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines and cosines of places, (..., 1) from 0 -> (..., width), fp32 (Vaswani et al., 2017, Sec. 3.5).

    Columns 2 i and 2 i + 1 are the sine and the cosine of place / 10,000^(2 i / width).
    """
    rates = 10_000 ** (-torch.arange(0, width, 2, device=places.device) / width)
    angles = places.float() * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :width]


def label_score_loss(scores: Tensor, labels: Labels) -> Tensor:
    """Mean over samples of log(1 + exp(-<score, y>)) (Eq. 4).

    scores: (n, c), pooled; those of both modalities are stacked, with labels to match. labels: (n,) integer classes or
    (n, c) multi-hot. Returns a scalar, in fp32 (fp64 for fp64 scores) whatever autocast is on. Eq. 4 sums over both
    modalities' samples; the released code takes the mean.

    Raises ValueError for labels that are not of c classes.
    """
    with full_precision(scores) as (scores,):
        truth = multi_hot_labels(labels, scores.shape[1]).to(scores)
        return -F.logsigmoid((scores * truth).sum(1)).mean()


def consistency_loss(image: Tensor, text: Tensor, labels: Labels) -> Tensor:
    """Consistency of embeddings between the modalities and within each (Eq. 1), as a mean over pairs of samples.

    image, text: (n, d), row i of both being one pair. labels: (n,) integer classes or (n, c) multi-hot; two samples
    belong together if they share a class. Returns a scalar, in fp32 (fp64 for fp64 embeddings) whatever autocast is on.
    Eq. 1 sums over pairs, which grows with the square of the batch.
    """
    with full_precision(image, text) as (image, text):
        truth = multi_hot_labels(labels).to(image)
        together = share_a_label(truth, truth)
        views = [(image, text), (image, image), (text, text)]
        return torch.stack([pair_negative_log_likelihood(*view, together, scale=0.5) for view in views]).sum()


def masked_loss_per_sample(logits: Tensor, targets: Tensor, mask: Tensor, *, sigmoid_first: bool = False) -> Tensor:
    """The sum over each sample's masked places of the cross-entropy of what was masked there, (n,).

    mask: (n, t) bool, True for the m places to be predicted. logits: (m, v) over object classes or words, of those
    places in the mask's order (`states[mask]`): a vocabulary's scores at every place would be most of a step's work.
    targets: (n, t) int64, read at masked places only; or (m,), those alone. A sample without masked places has 0.

    Summed over samples, and divided by the number of masked places, they are Eq. 5 (one modality): these sums and
    numbers are what has to be gathered over ranks.

    sigmoid_first: the logits pass through a sigmoid before the softmax, as in the released code; the probability of a
    word then stays between 1 / (1 + (v - 1) e) and e / (e + v - 1), whatever the logits.
    """
    with full_precision(logits) as (logits,):
        wanted = targets if targets.dim() == 1 else targets[mask]
        losses = F.cross_entropy(logits.sigmoid() if sigmoid_first else logits, wanted, reduction="none")
        return losses.new_zeros(mask.shape).masked_scatter(mask, losses).sum(1)
