"""SDML: scalable deep multimodal learning (Hu et al., 2019), a baseline.

Each modality trains alone, towards label projections that were fixed beforehand, so samples need not be paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import Fraction, Seed, Width
from xmr_e2e.methods.base import ManyModalities, Method
from xmr_e2e.methods.heads import fully_connected, label_prior
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.objectives.sdml import sdml_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

HIDDEN = (1024, 1024)


@dataclass(frozen=True, kw_only=True)
class Sdml(ManyModalities):
    """SDML's towers, widths and weights."""

    title = "SDML"
    citation = "Hu et al., Scalable Deep Multimodal Learning for Cross-Modal Retrieval, SIGIR, 2019"

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    dim: Width = 512
    """width of the common space"""
    reconstruction: Fraction = 0.5
    """share of the reconstruction; the rest is the labels'"""
    prior_seed: Seed = 0
    """of the fixed orthogonal label projections"""
    prior_weights: str = "none"
    """none (that orthogonal matrix), or a run or exported model of DRCL, whose selected prior takes its place (DRCL,
    Table VI)"""

    def build(self, dataset: DatasetInfo) -> SdmlModel:
        return SdmlModel(self, dataset)


class SdmlModel(Method):
    """The networks and losses of SDML. Stages: the modalities."""

    prior: Tensor

    def __init__(self, config: Sdml, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        widths = self.widths().items()
        self.encoders = nn.ModuleDict({name: fully_connected((d, *HIDDEN, config.dim)) for name, d in widths})
        self.decoders = nn.ModuleDict({name: fully_connected((config.dim, *HIDDEN, d)) for name, d in widths})
        self.register_buffer("prior", label_prior(config.dim, dataset, config.prior_seed))

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(
            Stage(name, (name,), (f"towers.{name}", f"encoders.{name}", f"decoders.{name}"), select="loss")
            for name in self.towers
        )

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return F.normalize(self.encoders[modality](self.features(modality, inputs)), dim=1)

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Features, embeddings and what the decoder makes of these."""
        ((name, item),) = inputs.items()
        features = self.features(name, item)
        embeddings = F.normalize(self.encoders[name](features), dim=1)
        decoded = F.normalize(self.decoders[name](embeddings), dim=1)
        # The released decoder's output has length 1; so must what it is compared with.
        return {"embeddings": embeddings, "decoded": decoded, "features": F.normalize(features.detach(), dim=1)}

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        z, decoded, features = (representations[name] for name in ("embeddings", "decoded", "features"))
        return sdml_loss(z, decoded, features, labels, self.prior, alpha=self.config.reconstruction)
