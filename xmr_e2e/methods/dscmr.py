"""DSCMR: deep supervised cross-modal retrieval (Zhen et al., 2019).

Each modality has a layer of its own, then both share one into the common space and a linear classifier. Discrimination
in the label space and in the common space, and the invariance of each pair, train them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from xmr_e2e.bounds import NotNegative, Width
from xmr_e2e.evaluation.protocol import COMPARED_BY_COSINE, Protocol
from xmr_e2e.methods.base import Method, TwoModalities, check_weights
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.dscmr import closed_form_classifier, dscmr_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class Dscmr(TwoModalities):
    """DSCMR's towers, widths and weights; where paper and released code differ, the default is the code's."""

    title = "DSCMR"
    citation = "Zhen et al., Deep Supervised Cross-modal Retrieval, CVPR, 2019"
    protocols = (
        Protocol(
            "released:dscmr",
            select="mAP@all",
            selected_on="test",
            choice="The epoch is the one with the best mAP@all on the test split itself, so the figures are too high.",
            similarity="cosine",
            quirks=(COMPARED_BY_COSINE,),
        ),
    )

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    hidden: Width = 2048
    """width of each modality's own layer"""
    dim: Width = 1024
    """width of the common space"""
    label: NotNegative = 1.0
    """weight of the discrimination in the label space (J1), to which Eq. 5 gives none: 0 in Tables 6 and 7"""
    common: NotNegative = 1e-3
    """weight of the discrimination in the common space (lambda of Eq. 5)"""
    invariance: NotNegative = 1e-1
    """weight of the modality invariance (eta of Eq. 5)"""
    norm: Literal["rows", "frobenius"] = "rows"
    """of the residuals: the mean norm of rows, as released, or the Frobenius norm over n, as printed in Eq. 1 and 4"""
    similar: Literal["indicator", "count"] = "indicator"
    """weight of a pair of samples in Eq. 2: 1 if they share a label, as printed, or the number of shared labels, as
    released; the same where samples have one label"""
    activation: Literal["linear", "relu"] = "linear"
    """after the shared layer: nothing, as released, or a ReLU, as printed"""
    classifier: Literal["learned", "closed_form"] = "learned"
    """a layer that learns with the rest, as released, or least squares on each batch, as printed in Algorithm 1"""
    ridge: NotNegative = 1e-3
    """added to the diagonals in closed form, where batches smaller than the common space are singular"""

    @property
    def needs_labels(self) -> bool:
        return bool(self.label or self.common)

    def build(self, dataset: DatasetInfo) -> DscmrModel:
        check_weights(self, "label", "common", "invariance")
        return DscmrModel(self, dataset)


class DscmrModel(Method):
    """The networks and losses of DSCMR."""

    def __init__(self, config: Dscmr, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.own = nn.ModuleDict({name: nn.Linear(width, config.hidden) for name, width in self.widths().items()})
        self.shared = nn.Linear(config.hidden, config.dim)
        if config.classifier == "learned":
            self.classifier = nn.Linear(config.dim, dataset.classes)

    @property
    def unreached(self) -> tuple[str, ...]:
        return () if self.config.label else ("classifier",)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        common: Tensor = self.shared(self.own[modality](self.features(modality, inputs)).relu())
        return common.relu() if self.config.activation == "relu" else common

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """Eq. 1-5."""
        x, y = (representations[name] for name in self.modalities)
        logits: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.config.label and self.config.classifier == "learned":
            logits = self.classifier(x), self.classifier(y)
        elif self.config.label:
            fitted = closed_form_classifier(x, y, labels, ridge=self.config.ridge)
            logits = x @ fitted, y @ fitted
        return dscmr_loss(
            x,
            y,
            *logits,
            labels,
            label=self.config.label,
            lam=self.config.common,
            eta=self.config.invariance,
            norm=self.config.norm,
            similar=self.config.similar,
        )
