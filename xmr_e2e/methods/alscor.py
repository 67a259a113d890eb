"""ALSCOR: adversarial learning based semantic correlation representation (Zhu et al., 2019).

VisNet and TxtNet embed both modalities in one space; deep CCA makes the pairs correlate there, one classifier for both
modalities keeps the classes apart, and a discriminator behind gradient reversal makes the modalities indistinguishable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import LARGE, Bounds, Fraction, NotNegative
from xmr_e2e.methods.base import Method, TwoModalities, check_weights
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.adversarial import modality_loss, reversal_schedule, reverse_gradient
from xmr_e2e.objectives.cca import correlation_loss
from xmr_e2e.objectives.classification import label_loss
from xmr_e2e.objectives.terms import weighted_terms
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiLstmCnn


@dataclass(frozen=True, kw_only=True)
class Alscor(TwoModalities):
    """ALSCOR's towers and weights. The paper leaves the weights and the common dimension open."""

    title = "ALSCOR"
    citation = (
        "Zhu et al., Adversarial Learning Based Semantic Correlation Representation for Cross-Modal Retrieval, 2019"
    )
    has_released_code = False

    image: TowerConfig | None = ImageTower(dropout=0.5)
    text: TowerConfig | None = BiLstmCnn()
    dim: Annotated[int, Bounds(int, least=4, most=LARGE)] = 40
    """width of the common space; the correlation needs batches well above it, the discriminator a layer of dim / 4"""
    correlation: NotNegative = 0.05
    """weight of the correlation loss (alpha in Eq. 33); the loss is minus a sum of `dim` correlations"""
    discrimination: NotNegative = 1.0
    """weight of the classifier's loss (delta)"""
    adversary: NotNegative = 0.1
    """weight of the modality discriminator's loss (epsilon)"""
    ridge: NotNegative = 1e-3
    """added to the covariances' diagonals"""
    q: Fraction = 0.0
    """of the generalized cross-entropy (1 - p^q) / q in place of the classifiers' cross-entropy, which wrong labels
    move less (Zhang & Sabuncu, 2018): 0 is cross-entropy, 1 the mean absolute error, 0.7 theirs"""

    @property
    def needs_labels(self) -> bool:
        return bool(self.discrimination)

    def build(self, dataset: DatasetInfo) -> AlscorModel:
        check_weights(self, "correlation", "discrimination", "adversary")
        return AlscorModel(self, dataset)


class AlscorModel(Method):
    """The networks and losses of ALSCOR."""

    similarity = "pearson"  # Eq. 6

    def __init__(self, config: Alscor, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.projections = nn.ModuleDict(
            {name: _projection(width, config.dim) for name, width in self.widths().items()}
        )
        # Standardised, both modalities have the same mean and variance in every dimension. Otherwise the discriminator
        # tells them apart by their offsets alone, and the offsets spoil the similarity between modalities
        # (docs/reproduction.md).
        self.standardize = nn.ModuleDict({name: nn.BatchNorm1d(config.dim, affine=False) for name in self.towers})
        self.classifier = nn.Linear(config.dim, dataset.classes)
        self.discriminator = _discriminator(config.dim, len(self.towers))

    @property
    def unreached(self) -> tuple[str, ...]:
        heads = {"classifier": self.config.discrimination, "discriminator": self.config.adversary}
        return tuple(name for name, weight in heads.items() if not weight)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self.standardize[modality](self._project(modality, inputs))

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return {modality: self._project(modality, item) for modality, item in inputs.items()}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """Eq. 29, 31, 32 and 33; one backward pass serves encoders and discriminator through the gradient reversal."""
        config = self.config
        # Here, not in `represent`: these are the statistics of the global batch.
        embeddings = [self.standardize[name](representations[name]) for name in self.towers]
        losses = [self._label_loss(rows, labels) for rows in embeddings if config.discrimination]
        strength = reversal_schedule(context.progress)
        guesses = [self.discriminator(reverse_gradient(rows, strength)) for rows in embeddings if config.adversary]
        terms, weighted = weighted_terms(
            {
                "correlation": (config.correlation, lambda: correlation_loss(*embeddings, ridge=config.ridge)),
                "discrimination": (config.discrimination, lambda: torch.stack(losses).sum()),
                "adversary": (config.adversary, lambda: modality_loss(guesses)),
            }
        )
        return {**terms, "total": torch.stack(weighted).sum()}

    def _label_loss(self, rows: Tensor, labels: Tensor) -> Tensor:
        return label_loss(self.classifier(rows), labels, multi_label=self.multi_label, q=self.config.q)

    def _project(self, modality: str, inputs: Any) -> Tensor:
        projected: Tensor = self.projections[modality](self.features(modality, inputs))
        return projected


def _projection(width: int, dim: int) -> nn.Linear:
    layer = nn.Linear(width, dim, bias=False)  # standardisation would take a bias away
    nn.init.normal_(layer.weight, std=0.01)  # the paper's initialisation of fully connected layers
    return layer


def _discriminator(dim: int, modalities: int) -> nn.Sequential:
    """Three layers, as ACMR's: d -> d/2 -> d/4 -> modalities."""
    return nn.Sequential(
        nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim // 4), nn.ReLU(), nn.Linear(dim // 4, modalities)
    )
