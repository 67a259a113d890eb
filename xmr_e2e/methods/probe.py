"""A linear probe, SM in the papers' tables: class probabilities of a logistic regression on each modality's features.

Features of towers that stand still, one linear classifier for each modality, and nothing that knows of the other
modality: what a method adds to its backbones is what it gains over this row. Semantic matching (SM) is the same on
features of its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xmr_e2e.bounds import Positive
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.classifier import Classifier
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.similarity import Similarity
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class Probe(TwoModalities):
    """The probe's towers and options."""

    title = "SM (linear probe)"
    citation = (
        "Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM Multimedia, 2010; Alain and Bengio, "
        "Understanding Intermediate Layers Using Linear Classifier Probes, ICLR Workshop, 2017"
    )

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    frozen: bool = True
    """keep the towers as they begin: a probe says what their features are worth, so nothing else is possible"""
    penalty: Positive = 1.0
    """of half the sum of the squared weights, beside the sum of the samples' cross-entropies"""
    similarity: Similarity = "dot"
    """of class probabilities; dot: the probability that a sample of each modality is of the same class"""

    def __post_init__(self) -> None:
        if not self.frozen:
            raise XmrError("--method.no-frozen: a probe's towers stand still; train them with another method")

    def build(self, dataset: DatasetInfo) -> ProbeModel:
        return ProbeModel(self, dataset)


class ProbeModel(Method):
    """Towers and a logistic regression for each modality. Stages: probe."""

    def __init__(self, config: Probe, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.penalty, self.similarity = config.penalty, config.similarity
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
