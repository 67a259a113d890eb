"""SCM: semantic correlation matching (Rasiwasia et al., 2010; Pereira et al., 2014), a baseline.

CCA, then a logistic regression on each modality's canonical variates; retrieval compares class probabilities. Without
CCA it is SM, which is `xmr_e2e.methods.probe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xmr_e2e.bounds import NotNegative, Positive, Width
from xmr_e2e.methods.canonical import CanonicalProjections
from xmr_e2e.methods.classifier import Classifier
from xmr_e2e.methods.fitted import FittedMethod, FittedOptions
from xmr_e2e.methods.stages import Stage
from xmr_e2e.similarity import Similarity
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Scm(FittedOptions):
    """SCM's towers and options."""

    title = "SCM"
    citation = (
        "Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM Multimedia, 2010; Pereira et al., "
        "On the Role of Correlation and Abstraction in Cross-Modal Multimedia Retrieval, IEEE Transactions on Pattern "
        "Analysis and Machine Intelligence, 2014"
    )
    most_modalities = 2

    dim: Width = 10
    """number of canonical variates"""
    ridge: NotNegative = 1e-3
    """added to the covariances' diagonals, as a share of their mean"""
    penalty: Positive = 1.0
    """of half the sum of the classifiers' squared weights, beside the sum of the samples' cross-entropies"""
    similarity: Similarity = "dot"
    """of class probabilities; dot: the probability that a sample of each modality is of the same class"""

    @property
    def needs_labels(self) -> bool:
        return True

    def build(self, dataset: DatasetInfo) -> ScmModel:
        return ScmModel(self, dataset)


class ScmModel(FittedMethod):
    """CCA and a logistic regression for each modality. Stages: labels, correlation."""

    def __init__(self, config: Scm, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config, self.similarity = config, config.similarity
        self.check_dim(config.dim)
        self.canonical = CanonicalProjections(self.widths(), config.dim)
        self.semantics = nn.ModuleDict(
            {name: Classifier(config.dim, dataset.classes, dataset.multi_label) for name in self.modalities}
        )

    def embed(self, modality: str, inputs: Any) -> Tensor:
        """Class probabilities (n, c)."""
        embedding: Tensor = self.semantics[modality](self.canonical(modality, self.features(modality, inputs)))
        return embedding

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        self.canonical.fit(embeddings, ridge=self.config.ridge)
        for name, classifier in self.semantics.items():
            classifier.fit(self.canonical(name, embeddings[name]), labels, self.config.penalty)  # type: ignore[operator]
