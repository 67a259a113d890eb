"""MARS: modality-agnostic representations (Wang and Peng, 2021), a baseline.

Modality by modality, samples need not be paired: with the first one, a network that embeds labels is trained; the later
ones are trained towards its embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import NotNegative, Seed, Width
from xmr_e2e.methods.base import ManyModalities, Method
from xmr_e2e.methods.heads import fully_connected, label_prior
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.mars import mars_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

HIDDEN = (2048, 1024)
LABEL_HIDDEN = (1024, 1024)
EXCLUSION = {True: 0.5, False: 0.2}
"""weight of the exclusive head's loss, for the first modality and for the later ones"""


@dataclass(frozen=True, kw_only=True)
class Mars(ManyModalities):
    """MARS's towers, widths and weights."""

    title = "MARS"
    citation = (
        "Wang and Peng, MARS: Learning Modality-Agnostic Representation for Scalable Cross-Media Retrieval, "
        "IEEE Transactions on Circuits and Systems for Video Technology, 2021"
    )

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    dim: Width = 128
    """width of the common space"""
    classification: NotNegative = 1.0
    """weight of the classification"""
    prior_seed: Seed = 0
    """of the fixed orthogonal classifier"""
    prior_weights: str = "none"
    """none (that orthogonal matrix), or a run or exported model of DRCL, whose selected prior takes its place (DRCL,
    Table VI)"""

    def build(self, dataset: DatasetInfo) -> MarsModel:
        return MarsModel(self, dataset)


class MarsModel(Method):
    """The networks and losses of MARS. Stages: the modalities."""

    prior: Tensor

    def __init__(self, config: Mars, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.encoders = nn.ModuleDict(
            {name: fully_connected((width, *HIDDEN), last=nn.ReLU) for name, width in self.widths().items()}
        )
        self.shared, self.exclusive = (
            nn.ModuleDict({name: nn.Linear(HIDDEN[-1], config.dim, bias=False) for name in self.towers})
            for _ in range(2)
        )
        self.label_network = fully_connected((dataset.classes, *LABEL_HIDDEN, config.dim))
        self.register_buffer("prior", label_prior(config.dim, dataset, config.prior_seed))

    @property
    def stages(self) -> tuple[Stage, ...]:
        networks = ("towers", "encoders", "shared", "exclusive")
        return tuple(
            Stage(
                name,
                (name,),
                (*(f"{network}.{name}" for network in networks), *(("label_network",) if number == 0 else ())),
                select="last",  # the released selection variable was never updated
            )
            for number, name in enumerate(self.towers)
        )

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return F.normalize(self.shared[modality](self.encoders[modality](self.features(modality, inputs))), dim=1)

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The outputs of both heads for the modality's features."""
        ((name, item),) = inputs.items()
        states = self.encoders[name](self.features(name, item))
        return {key: F.normalize(getattr(self, key)[name](states), dim=1) for key in ("shared", "exclusive")}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        first = context.stage == self.modalities[0]
        return mars_loss(
            representations["shared"],
            representations["exclusive"],
            labels,
            self.label_network(labels.to(representations["shared"])),
            labels,
            self.prior,
            first=first,
            classification=self.config.classification,
            exclusion=EXCLUSION[first],
        )
