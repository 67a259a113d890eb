"""MRL: multimodal robust learning with noisy labels (Hu et al., 2021), a baseline.

The embeddings of all modalities cluster around the same centers, by a loss that wrong labels move little, and a
contrast between the modalities holds a sample's items together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.bounds import Fraction, Positive, Width
from xmr_e2e.methods.base import ManyModalities, Method
from xmr_e2e.methods.heads import fully_connected
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.mrl import mrl_loss
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class Mrl(ManyModalities):
    """MRL's towers, widths and weights."""

    title = "MRL"
    citation = "Hu et al., Learning Cross-Modal Retrieval with Noisy Labels, CVPR, 2021"

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    hidden: Width = 4096
    """width of both hidden layers of each encoder"""
    dim: Width = 512
    """width of the common space"""
    clustering: Fraction = 0.7
    """share of the robust clustering (beta); the rest is the contrast's"""
    temperature: Positive = 1.0
    """divisor of all inner products (tau)"""

    @property
    def needs_labels(self) -> bool:
        return self.clustering > 0

    def build(self, dataset: DatasetInfo) -> MrlModel:
        return MrlModel(self, dataset)


class MrlModel(Method):
    """The networks and losses of MRL."""

    def __init__(self, config: Mrl, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        layers = (config.hidden, config.hidden, config.dim)
        self.encoders = nn.ModuleDict({name: fully_connected((d, *layers)) for name, d in self.widths().items()})
        self.centers = nn.Parameter(nn.init.orthogonal_(torch.empty(config.dim, dataset.classes)))

    @property
    def unreached(self) -> tuple[str, ...]:
        return () if self.config.clustering else ("centers",)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return F.normalize(self.encoders[modality](self.features(modality, inputs)), dim=1)

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        beta, temperature = self.config.clustering, self.config.temperature
        return mrl_loss(representations, self.centers, labels, beta=beta, temperature=temperature)
