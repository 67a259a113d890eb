"""Corr-AE: correspondence autoencoders (Feng et al., 2014), a baseline.

Two autoencoders whose hidden layers agree on each pair. They need no labels, and with them alone towers could agree by
making all features alike; so the towers first learn to predict the classes (with `frozen`, those alone that have no
published weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xmr_e2e.bounds import Fraction, Width
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.classification import label_losses
from xmr_e2e.objectives.correspondence import Variant, correspondence_loss, reconstructions
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

LABELS, AUTOENCODERS = "labels", "autoencoders"


@dataclass(frozen=True, kw_only=True)
class CorrAe(TwoModalities):
    """Corr-AE's towers, widths and weights."""

    title = "Corr-AE"
    citation = "Feng et al., Cross-modal Retrieval with Correspondence Autoencoder, ACM Multimedia, 2014"

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    variant: Variant = "plain"
    """each hidden layer reconstructs its own modality (plain), the other one (cross) or both (full)"""
    dim: Width = 1024
    """width of the hidden layers, which are the common space"""
    correlation: Fraction = 0.8
    """share of the agreement (alpha); the authors took 0.2 for the variant cross"""

    @property
    def needs_labels(self) -> bool:
        return not self.frozen  # with which the method has no stage of its own that trains towers

    def build(self, dataset: DatasetInfo) -> CorrAeModel:
        return CorrAeModel(self, dataset)


class CorrAeModel(Method):
    """The networks and losses of Corr-AE. Stages: labels (not with frozen towers), autoencoders."""

    def __init__(self, config: CorrAe, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        widths = self.widths()
        self.classifiers = nn.ModuleDict({name: nn.Linear(width, dataset.classes) for name, width in widths.items()})
        # Standardised inputs weigh the same in both modalities' errors.
        self.standardize = nn.ModuleDict({name: nn.BatchNorm1d(d, affine=False) for name, d in widths.items()})
        self.encoders = nn.ModuleDict({name: nn.Linear(width, config.dim) for name, width in widths.items()})
        self.decoders = nn.ModuleDict(
            {f"{a}_{b}": nn.Linear(config.dim, widths[b]) for a, b in reconstructions(config.variant, self.modalities)}
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        # The towers stand still in the second stage, or they would make their features easy to reconstruct.
        second = Stage(AUTOENCODERS, self.modalities, ("encoders", "decoders"))
        learning = tuple(name for name in self.modalities if name not in self.frozen)
        prefixes = tuple(f"{part}.{name}" for name in learning for part in ("towers", "classifiers"))
        return (Stage(LABELS, learning, prefixes, select="loss"), second) if learning else (second,)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self._hidden(modality, self.standardize[modality](self.features(modality, inputs)))

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The towers' features: standardisation needs the global batch."""
        return {name: self.features(name, item) for name, item in inputs.items()}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        if context.stage == LABELS:
            logits = {name: self.classifiers[name](rows) for name, rows in representations.items()}
            return label_losses(logits, labels, multi_label=self.multi_label)
        inputs = {name: self.standardize[name](representations[name]) for name in self.modalities}
        hidden = {name: self._hidden(name, rows) for name, rows in inputs.items()}
        decoded = {
            (a, b): self.decoders[f"{a}_{b}"](hidden[a])
            for a, b in reconstructions(self.config.variant, self.modalities)
        }
        alpha, variant = self.config.correlation, self.config.variant
        return correspondence_loss(hidden, decoded, inputs, alpha=alpha, variant=variant)

    def _hidden(self, modality: str, rows: Tensor) -> Tensor:
        hidden: Tensor = self.encoders[modality](rows).sigmoid()
        return hidden
