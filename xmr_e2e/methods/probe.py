"""A linear probe: the class probabilities of a logistic regression on each modality's features, a baseline.

Features of towers that stand still, one linear classifier for each modality, and nothing that knows of the other
modality: what a method adds to its backbones is what it gains over this row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import Positive
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.logistic import fit_logistic_regression
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class Probe(TwoModalities):
    """The probe's towers and options."""

    title = "Linear probe"
    citation = "Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, ICLR Workshop, 2017"

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    frozen: bool = True
    """keep the towers as they begin: a probe says what their features are worth, so nothing else is possible"""
    penalty: Positive = 1.0
    """of half the sum of the squared weights, beside the sum of the samples' cross-entropies"""

    def __post_init__(self) -> None:
        if not self.frozen:
            raise XmrError("--method.no-frozen: a probe's towers stand still; train them with another method")

    def build(self, dataset: DatasetInfo) -> ProbeModel:
        return ProbeModel(self, dataset)


class ProbeModel(Method):
    """Towers and a logistic regression for each modality. Stages: probe."""

    similarity = "dot"
    """of class probabilities: the probability that a sample of each is of the same class"""

    def __init__(self, config: Probe, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.penalty = config.penalty
        self.classifiers = nn.ModuleDict(
            {name: Classifier(width, dataset.classes, dataset.multi_label) for name, width in self.widths().items()}
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (Stage("probe", self.modalities, closed_form=True),)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        """Class probabilities (n, c)."""
        embedding: Tensor = self.classifiers[modality](self.features(modality, inputs))
        return embedding

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        raise NotImplementedError("a probe is fitted in closed form")

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        for name, classifier in self.classifiers.items():
            classifier.fit(embeddings[name], labels, self.penalty)  # type: ignore[operator]


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
