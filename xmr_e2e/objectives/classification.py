"""Discrimination loss: cross-entropy of class predictions made from the embeddings of one modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def label_loss(logits: Tensor, labels: Tensor, *, multi_label: bool, q: float = 0.0) -> Tensor:
    """Cross-entropy of class predictions (ALSCOR, Eq. 31, for one modality), or a robust one.

    Computed in fp32 (fp64 for fp64 logits), whatever autocast is on.

    Args:
        logits: (n, c).
        labels: (n, c), one-hot, or multi-hot with multi_label=True.
        q: of the generalized cross-entropy (1 - p^q) / q, p being the probability of the label (Zhang & Sabuncu, 2018,
            Eq. 6), which wrong labels move less: 0 is cross-entropy, 1 the mean absolute error.

    Returns:
        A scalar, the mean over samples of the loss of the softmax or, for several labels, of the sum over classes of
        each class's own.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = labels.to(logits.dtype)
        if q:
            if multi_label:
                return generalized_cross_entropy(F.logsigmoid(logits * (2 * labels - 1)), q).sum() / len(logits)
            return generalized_cross_entropy((F.log_softmax(logits, dim=1) * labels).sum(1), q).mean()
        if multi_label:
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)
        return F.cross_entropy(logits, labels)


def label_losses(
    logits: Mapping[str, Tensor], labels: Tensor, *, multi_label: bool, q: float = 0.0
) -> dict[str, Tensor]:
    """`label_loss` of each modality's logits, (n, c) by modality, and their sum, "total"."""
    terms = {name: label_loss(rows, labels, multi_label=multi_label, q=q) for name, rows in logits.items()}
    return {**terms, "total": torch.stack(list(terms.values())).sum()}


def generalized_cross_entropy(log_p: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q of each probability (Zhang & Sabuncu, 2018, Eq. 6), for 0 < q, from its logarithm.

    p^q = exp(q log p) has a slope of at most q; in p itself it is infinite at 0.
    """
    # expm1: for small q, 1 - p^q is a small difference of numbers close to 1.
    return -torch.expm1(q * log_p) / q
