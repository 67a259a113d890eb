"""MARS, modality-agnostic representations (Wang and Peng, 2021): each modality alone, towards embeddings of the labels.

With the first modality, a network that embeds label vectors is trained; for later modalities it is frozen.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from xmr_e2e.objectives.labels import Labels, multi_hot_labels, share_a_label
from xmr_e2e.objectives.similarity import full_precision, pair_negative_log_likelihood


def mars_loss(
    shared: Tensor,
    exclusive: Tensor,
    labels: Labels,
    label_embeddings: Tensor,
    embedded_labels: Labels,
    classifier: Tensor,
    *,
    first: bool,
    classification: float = 1.0,
    exclusion: float = 0.5,
) -> dict[str, Tensor]:
    """The losses of one modality's network and, with the first modality, of the label network (as released).

    Args:
        shared, exclusive: (n, d) the outputs of the modality's two heads, of length 1.
        labels: (n,) integer classes or (n, c) multi-hot, of those samples.
        label_embeddings: (m, d) the label network's outputs for embedded_labels.
        embedded_labels: (m,) integer classes or (m, c) multi-hot; the released code shuffles them by themselves.
        classifier: (d, c) the fixed W with orthonormal columns, see `orthogonal_prior`.
        first: whether this modality trains the label network too. Otherwise label_embeddings get no gradient, and
            "labels" is left out.
        classification: weight of "classification".
        exclusion: weight of "exclusion"; the released code takes 0.5 for the first modality and 0.2 for later ones.

    Returns:
        With pair(a, b) the mean over pairs of log(1 + exp(t)) - S t, t = 2 cos(a_i, b_j), S = 1 where they share a
        label and 0 elsewhere, the scalars "correspondence" = pair(label_embeddings, shared), "shared" =
        pair(shared, shared), "labels" = pair(label_embeddings, label_embeddings), "classification", the mean of
        -y · log softmax(shared W), "exclusion", the mean of log max softmax(exclusive W), least where the exclusive
        head tells nothing of the classes, and "total", in which each pair term has weight 1. "classification" and
        "exclusion" are means over the rows that have labels, 0 if there are none. All in fp32 (fp64 for fp64 inputs)
        whatever autocast is on.

    Raises:
        ValueError: labels that are not of c classes.
    """
    tensors = (shared, exclusive, label_embeddings if first else label_embeddings.detach(), classifier)
    with full_precision(*tensors) as (shared, exclusive, label_embeddings, classifier):
        truth, embedded = (multi_hot_labels(y, classifier.shape[1]).to(shared) for y in (labels, embedded_labels))
        terms = {
            "correspondence": _pair_loss(label_embeddings, shared, embedded, truth),
            "shared": _pair_loss(shared, shared, truth, truth),
        }
        if first:
            terms["labels"] = _pair_loss(label_embeddings, label_embeddings, embedded, embedded)
        pairs = torch.stack(list(terms.values())).sum()
        labeled = truth.any(1)
        terms["classification"] = _mean_over(labeled, -(truth * F.log_softmax(shared @ classifier, dim=1)).sum(1))
        terms["exclusion"] = _mean_over(labeled, F.log_softmax(exclusive @ classifier, dim=1).amax(1))
        terms["total"] = pairs + classification * terms["classification"] + exclusion * terms["exclusion"]
        return terms


def _pair_loss(x: Tensor, y: Tensor, x_labels: Tensor, y_labels: Tensor) -> Tensor:
    return pair_negative_log_likelihood(x, y, share_a_label(x_labels, y_labels), scale=2.0)


def _mean_over(chosen: Tensor, values: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
