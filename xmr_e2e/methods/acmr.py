"""ACMR: adversarial cross-modal retrieval (Wang et al., 2017), a baseline.

A classifier and triplets across modalities shape the common space, a modality discriminator behind gradient reversal
takes the modality out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from xmr_e2e.bounds import LARGE, Bounds, Fraction, NotNegative
from xmr_e2e.evaluation.protocol import Protocol
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.heads import fully_connected
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.acmr import acmr_loss
from xmr_e2e.objectives.adversarial import reversal_schedule, reverse_gradient
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

HIDDEN = {"text": (40, 100)}
"""of texts; all other modalities have those of pictures"""
HIDDEN_OF_OTHERS = (512, 100)


@dataclass(frozen=True, kw_only=True)
class Acmr(TwoModalities):
    """ACMR's towers, widths and weights."""

    title = "ACMR"
    citation = "Wang et al., Adversarial Cross-Modal Retrieval, ACM Multimedia, 2017"
    protocols = (
        Protocol(
            "released:acmr",
            select="last",
            selected_on="nothing",
            choice="The last epoch is kept: none is selected.",
            whole_batches=64,
            quirks=(
                "Only whole batches of 64 samples are measured (640 of Wikipedia's 693), in the order of the shards.",
            ),
        ),
    )

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    dim: Annotated[int, Bounds(int, least=4, most=LARGE)] = 40
    """width of the common space"""
    label: NotNegative = 1.0
    """weight of the label prediction"""
    attract: NotNegative = 1.0
    """weight of the distance between pairs"""
    repel: NotNegative = 0.2
    """weight of the hinge on the distance to other classes"""
    q: Fraction = 0.0
    """of the generalized cross-entropy (1 - p^q) / q in place of the label prediction's cross-entropy, which wrong
    labels move less (Zhang & Sabuncu, 2018): 0 is cross-entropy, 1 the mean absolute error, 0.7 theirs"""
    margin: NotNegative = 1.0
    """of the hinge"""
    triplets: Literal["paper", "released"] = "paper"
    """a hinge for each triplet, or one for the whole batch, as released (with --method.label 100 --method.attract 5
    --method.repel 1 --method.margin 0.1)"""
    adversary: Literal["paper", "released"] = "paper"
    """the adversarial minimax, or as released: the embeddings never feel the discriminator, and the classifier stays at
    its random start"""

    def build(self, dataset: DatasetInfo) -> AcmrModel:
        return AcmrModel(self, dataset)


class AcmrModel(Method):
    """The networks and losses of ACMR."""

    def __init__(self, config: Acmr, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.projections = nn.ModuleDict(
            {
                name: fully_connected((width, *HIDDEN.get(name, HIDDEN_OF_OTHERS), config.dim), nn.Tanh, last=nn.Tanh)
                for name, width in self.widths().items()
            }
        )
        self.classifier = nn.Linear(config.dim, dataset.classes)
        self.discriminator = fully_connected((config.dim, config.dim // 2, config.dim // 4, 2))
        if config.adversary == "released":
            self.classifier.requires_grad_(False)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        embeddings: Tensor = self.projections[modality](self.features(modality, inputs))
        return embeddings

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Features, by which triplets are chosen, and embeddings."""
        features = {name: self.features(name, item) for name, item in inputs.items()}
        embeddings = {name: self.projections[name](rows) for name, rows in features.items()}
        return embeddings | {f"{name} features": rows for name, rows in features.items()}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        """Eq. 1-7."""
        config = self.config
        (first, x), (second, y) = ((name, representations[name]) for name in self.modalities)
        strength = reversal_schedule(context.progress) if config.adversary == "paper" else 0.0
        return acmr_loss(
            x,
            y,
            self.classifier(x),
            self.classifier(y),
            [self.discriminator(reverse_gradient(rows, strength)) for rows in (x, y)],
            labels,
            representations[f"{first} features"].detach(),
            representations[f"{second} features"].detach(),
            multi_label=self.multi_label,
            triplets=config.triplets,
            label_weight=config.label,
            attract=config.attract,
            repel=config.repel,
            margin=config.margin,
            q=config.q,
        )
