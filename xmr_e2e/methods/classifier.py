"""A logistic regression of one modality as a module: it is fitted to all samples at once and kept with the model."""

from __future__ import annotations

import torch
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.objectives.logistic import fit_logistic_regression


class Classifier(ClosedForm):
    """Rows to class probabilities, by a logistic regression on standardized features; until `fit`, rows as they are."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, classes: int, multi_label: bool) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("weight", torch.zeros(width, classes))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, c)."""
        if not self.fitted:
            return rows
        logits = ((rows.to(self.mean) - self.mean) / self.scale) @ self.weight + self.bias
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)

    def fit(self, rows: Tensor, labels: Tensor, penalty: float) -> None:
        """Fit to n samples, (n, width) and (n, c) multi-hot.

        Raises:
            XmrError: NaN or infinite features.
        """
        rows = rows.double()
        if not rows.isfinite().all():
            raise XmrError(
                "NaN or infinite features, to which no classifier can be fitted: look at the towers' weights"
            )
        mean, scale = rows.mean(dim=0), rows.std(dim=0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)  # a feature that is the same for all tells nothing
        found = fit_logistic_regression((rows - mean) / scale, labels, penalty=penalty, multi_label=self.multi_label)
        for name, value in (("mean", mean), ("scale", scale), ("weight", found.weight), ("bias", found.bias)):
            getattr(self, name).copy_(value)
        self.fitted.fill_(True)
