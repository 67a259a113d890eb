"""JRL: joint representation learning with sparse and graph regularization (Zhai et al., 2014), a baseline.

Linear projections of all modalities to the labels, which agree on a sample and use few features; retrieval compares the
labels that are predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import Count, NotNegative, Positive
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.classifier import StandardizedLinear
from xmr_e2e.methods.fitted import FittedMethod, FittedOptions, check_finite_rows
from xmr_e2e.methods.stages import Stage
from xmr_e2e.objectives.jrl import JrlWeights, fit_jrl
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Jrl(FittedOptions):
    """JRL's towers and weights. Samples take part that have all modalities."""

    title = "JRL"
    citation = (
        "Zhai et al., Learning Cross-Media Joint Representation with Sparse and Semisupervised Regularization, IEEE "
        "Transactions on Circuits and Systems for Video Technology, 2014"
    )

    correlation: NotNegative = 1.0
    """weight of the squared distances between a sample's projections, beside the squared errors of the labels"""
    sparsity: Positive = 0.01
    """weight of the sum of the lengths of the projections' rows, by which features are left out"""
    graph: NotNegative = 0.01
    """weight of the squared distances between the projections of neighbors; 0: no graphs"""
    neighbors: Count = 10
    """nearest training samples of a modality, between which the projections shall differ little"""
    iterations: Count = 100
    """most solutions in turn; they end when the objective hardly changes"""

    @property
    def needs_labels(self) -> bool:
        return True

    def build(self, dataset: DatasetInfo) -> JrlModel:
        return JrlModel(self, dataset)


class JrlModel(FittedMethod):
    """Towers, their classifiers and the projections. Stages: labels, projection."""

    fitted_in = "projection"

    def __init__(self, config: Jrl, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.projections = nn.ModuleDict(
            {name: LabelProjection(width, dataset.classes) for name, width in self.widths().items()}
        )

    def embed(self, modality: str, inputs: Any) -> Tensor:
        """Predicted labels (n, c), less their means."""
        embedding: Tensor = self.projections[modality](self.features(modality, inputs))
        return embedding

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        """Raises XmrError for NaN or infinite rows, and for weights too small for an inverse."""
        check_finite_rows(embeddings, "JRL")
        config = self.config
        layers: dict[str, LabelProjection] = dict(self.projections.items())  # type: ignore[arg-type]
        views = [layers[name].standardize(rows.double()) for name, rows in embeddings.items()]
        weights = JrlWeights(config.correlation, config.sparsity, config.graph)
        try:
            found = fit_jrl(views, labels, weights, neighbors=config.neighbors, iterations=config.iterations)
        except torch.linalg.LinAlgError as error:
            raise XmrError(
                f"JRL with the sparsity {config.sparsity:g} cannot be fitted: the embeddings' moments are singular; "
                "raise --method.sparsity"
            ) from error
        for name, projection in zip(embeddings, found):
            layers[name].keep(projection)


class LabelProjection(StandardizedLinear):
    """Rows to predicted labels, linearly from standardized features; until `keep`, rows as they are."""

    def forward(self, rows: Tensor) -> Tensor:
        """(n, width) -> (n, c)."""
        return self.project(rows) if self.fitted else rows

    def keep(self, weight: Tensor) -> None:
        """Take over the projection (width, c)."""
        self.weight.copy_(weight)
        self.fitted.fill_(True)
