"""Discrimination loss: cross-entropy of class predictions made from the embeddings of one modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def label_loss(logits: Tensor, labels: Tensor, *, multi_label: bool) -> Tensor:
    """Cross-entropy of class predictions (ALSCOR, Eq. 31, for one modality).

    logits: (n, c). labels: (n, c), one-hot, or multi-hot with multi_label=True. Returns a scalar, the mean over
    samples of the softmax cross-entropy or, for several labels, of the binary cross-entropy summed over classes.
    Computed in fp32 (fp64 for fp64 logits), whatever autocast is on.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = labels.to(logits.dtype)
        if multi_label:
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)
        return F.cross_entropy(logits, labels)


def label_losses(logits: Mapping[str, Tensor], labels: Tensor, *, multi_label: bool) -> dict[str, Tensor]:
    """`label_loss` of each modality's logits, (n, c) by modality, and their sum, "total"."""
    terms = {name: label_loss(rows, labels, multi_label=multi_label) for name, rows in logits.items()}
    return {**terms, "total": torch.stack(list(terms.values())).sum()}
