"""CCA: linear canonical correlation analysis on the features of towers that learned the labels, a baseline.

Canonical correlation has a closed form, so it cannot teach the towers. These first learn to predict the classes, each
modality by itself (with `frozen` those alone that have no published weights); then CCA is fitted to the training split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xmr_e2e.bounds import NotNegative, Width
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.canonical import CanonicalProjections
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.classification import label_losses
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class Cca(TwoModalities):
    """CCA's towers and options."""

    title = "CCA"
    citation = "Hotelling, Relations between Two Sets of Variates, Biometrika, 1936"

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    dim: Width = 10
    """number of canonical correlations"""
    ridge: NotNegative = 1e-3
    """added to the covariances' diagonals, as a share of their mean"""
    power: NotNegative = 0.0
    """of a variate's correlation, by which it is weighed in retrieval; 0: all alike, as published"""

    @property
    def needs_labels(self) -> bool:
        return not self.frozen  # with which the method has no stage of its own that trains towers

    def build(self, dataset: DatasetInfo) -> CcaModel:
        return CcaModel(self, dataset)


class CcaModel(Method):
    """Towers, their classifiers and the canonical projections. Stages: labels, correlation."""

    def __init__(self, config: Cca, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        widths = self.widths()
        if config.dim > min(widths.values()):
            raise XmrError(f"--method.dim {config.dim} is more than the towers' widths allow ({min(widths.values())})")
        self.classifiers = nn.ModuleDict({name: nn.Linear(width, dataset.classes) for name, width in widths.items()})
        self.canonical = CanonicalProjections(widths, config.dim)

    @property
    def stages(self) -> tuple[Stage, ...]:
        fit = Stage("correlation", self.modalities, closed_form=True)
        learning = tuple(name for name in self.modalities if name not in self.frozen)
        prefixes = tuple(f"{part}.{name}" for name in learning for part in ("towers", "classifiers"))
        return (Stage("labels", learning, prefixes, select="loss"), fit) if learning else (fit,)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self.canonical(modality, self.features(modality, inputs))

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Logits by modality."""
        return {name: self.classifiers[name](self.features(name, item)) for name, item in inputs.items()}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        return label_losses(representations, labels, multi_label=self.multi_label)

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        self.canonical.fit(embeddings, ridge=self.config.ridge, power=self.config.power)
