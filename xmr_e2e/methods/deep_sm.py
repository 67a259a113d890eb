"""Deep-SM: deep semantic matching (Wei et al., 2017), a baseline.

Each modality learns to predict the classes; retrieval compares the predicted probabilities. With frozen towers and a
hidden layer it is a probe of two layers; a probe of one, in closed form, is `xmr_e2e.methods.probe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor, nn

from xmr_e2e.bounds import LARGE, Bounds, Fraction
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.heads import fully_connected
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.classification import label_losses
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class DeepSm(TwoModalities):
    """Deep-SM's towers."""

    title = "Deep-SM"
    citation = (
        "Wei et al., Cross-Modal Retrieval with CNN Visual Features: A New Baseline, IEEE Transactions on "
        "Cybernetics, 2017"
    )

    image: TowerConfig | None = ImageTower("alexnet", dropout=0.5)
    text: TowerConfig | None = TextCnn(dropout=0.5)
    hidden: Annotated[int, Bounds(int, least=0, most=LARGE)] = 0
    """width of a hidden layer of the classifiers; 0: each is a linear layer, as published"""
    q: Fraction = 0.0
    """of the generalized cross-entropy (1 - p^q) / q in place of the classifiers' cross-entropy, which wrong labels
    move less (Zhang & Sabuncu, 2018): 0 is cross-entropy, 1 the mean absolute error, 0.7 theirs"""

    def build(self, dataset: DatasetInfo) -> DeepSmModel:
        return DeepSmModel(self, dataset)


class DeepSmModel(Method):
    """The networks and losses of Deep-SM."""

    def __init__(self, config: DeepSm, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.q = config.q
        self.classifiers = nn.ModuleDict(
            {name: _classifier(width, config.hidden, dataset.classes) for name, width in self.widths().items()}
        )

    def embed(self, modality: str, inputs: Any) -> Tensor:
        """Class probabilities: softmax, or for several labels per sample each class's own."""
        logits = self._logits(modality, inputs).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Logits by modality."""
        return {name: self._logits(name, item) for name, item in inputs.items()}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        return label_losses(representations, labels, multi_label=self.multi_label, q=self.q)

    def _logits(self, modality: str, inputs: Any) -> Tensor:
        logits: Tensor = self.classifiers[modality](self.features(modality, inputs))
        return logits


def _classifier(width: int, hidden: int, classes: int) -> nn.Module:
    return fully_connected((width, hidden, classes)) if hidden else nn.Linear(width, classes)
