"""Networks whose outputs correlate, with linear CCA behind them: what DCCA and DCCAE share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from xmr_e2e.bounds import Layers, NotNegative, Width
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.canonical import CanonicalProjections
from xmr_e2e.methods.stages import Stage
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


@dataclass(frozen=True, kw_only=True)
class CorrelatedNetworks(TwoModalities):
    """Towers, widths and options of networks whose outputs correlate."""

    image: TowerConfig | None = ImageTower("vgg19")
    text: TowerConfig | None = TextCnn()
    hidden: Width = 1024
    """width of the hidden layers on top of each tower"""
    layers: Layers = 3
    """number of these hidden layers"""
    dim: Width = 20
    """width of the outputs, all of whose correlations are maximised; the batch must be well above it"""
    ridge: NotNegative = 1e-3
    """added to the covariances' diagonals of the loss"""
    square_ridge: NotNegative = 0.0
    """added to the squared correlations before their roots are summed; the released code has 1e-3"""
    linear_ridge: NotNegative = 1e-4
    """added to those of the linear CCA at the end, as a share of their mean"""
    power: NotNegative = 0.0
    """of a variate's correlation, by which it is weighed in retrieval; 0: all alike, as published"""

    needs_labels = False  # they learn from pairs alone


class CorrelatedModel(Method):
    """Networks on top of the towers, and linear CCA on their outputs. Stages: networks, correlation."""

    def __init__(self, config: CorrelatedNetworks, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.networks = nn.ModuleDict(
            {
                name: sigmoid_network(width, config.hidden, config.layers, config.dim)
                for name, width in self.widths().items()
            }
        )
        self.canonical = CanonicalProjections(dict.fromkeys(self.modalities, config.dim), config.dim)
        self.linear_ridge, self.power = config.linear_ridge, config.power

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("networks", self.modalities, without=self.unreached),
            Stage("correlation", self.modalities, closed_form=True),
        )

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self.canonical(modality, self.networks[modality](self.features(modality, inputs)))

    def represent(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The towers' features: batch normalisation needs the global batch."""
        return {name: self.features(name, item) for name, item in inputs.items()}

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        self.canonical.fit(embeddings, ridge=self.linear_ridge, power=self.power)


def sigmoid_network(width: int, hidden: int, layers: int, dim: int) -> nn.Sequential:
    """Standardised inputs, sigmoid layers, each followed by batch normalisation, and a linear one."""
    parts: list[nn.Module] = [nn.BatchNorm1d(width, affine=False)]
    for inside in (width, *[hidden] * (layers - 1)):
        parts += [nn.Linear(inside, hidden), nn.Sigmoid(), nn.BatchNorm1d(hidden, affine=False)]
    return nn.Sequential(*parts, nn.Linear(hidden, dim))
