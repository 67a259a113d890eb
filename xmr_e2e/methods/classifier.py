"""Linear layers of one modality that are fitted to all samples at once and kept with the model, and a classifier."""

from __future__ import annotations

import torch
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.objectives.logistic import fit_logistic_regression


class StandardizedLinear(ClosedForm):
    """A linear layer on standardized features, without a bias."""

    mean: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("weight", torch.zeros(width, classes))

    def project(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, c)."""
        return ((rows.to(self.mean) - self.mean) / self.scale) @ self.weight

    def standardize(self, rows: Tensor) -> Tensor:
        """Take the training rows' means and deviations, (n, width), and return the rows without them."""
        mean, scale = rows.mean(dim=0), rows.std(dim=0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)  # a feature that is the same for all tells nothing
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        return (rows - mean) / scale


class Classifier(StandardizedLinear):
    """Rows to class probabilities, by a logistic regression on standardized features; until `fit`, rows as they are."""

    bias: Tensor

    def __init__(self, width: int, classes: int, multi_label: bool) -> None:
        super().__init__(width, classes)
        self.multi_label = multi_label
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, c)."""
        if not self.fitted:
            return rows
        logits = self.project(rows) + self.bias
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
        rows = self.standardize(rows)
        found = fit_logistic_regression(rows, labels, penalty=penalty, multi_label=self.multi_label)
        self.weight.copy_(found.weight)
        self.bias.copy_(found.bias)
        self.fitted.fill_(True)
