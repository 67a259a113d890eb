"""DCCAE: deep canonically correlated autoencoders (Wang et al., 2015), a baseline without labels.

DCCA whose outputs have to reconstruct what its networks saw, so that they keep more of it than what correlates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from xmr_e2e.bounds import NotNegative
from xmr_e2e.methods.correlated import CorrelatedModel, CorrelatedNetworks, sigmoid_network
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.dccae import dccae_loss
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Dccae(CorrelatedNetworks):
    """DCCAE's towers, widths and options."""

    title = "DCCAE"
    citation = "Wang et al., On Deep Multi-View Representation Learning, ICML, 2015"

    reconstruction: NotNegative = 1e-3
    """weight of the autoencoders' errors (lambda), which the paper chooses on validation data"""

    def build(self, dataset: DatasetInfo) -> DccaeModel:
        return DccaeModel(self, dataset)


class DccaeModel(CorrelatedModel):
    """The networks and losses of DCCAE. Stages: networks, correlation."""

    def __init__(self, config: Dccae, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.decoders = nn.ModuleDict(
            {
                name: sigmoid_network(config.dim, config.hidden, config.layers, width)
                for name, width in self.widths().items()
            }
        )

    @property
    def unreached(self) -> tuple[str, ...]:
        return () if self.config.reconstruction else ("decoders",)

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        networks = {name: cast("nn.Sequential", self.networks[name]) for name in self.modalities}
        # Standardised inputs weigh the same in both modalities' errors.
        inputs = {name: network[0](representations[name]) for name, network in networks.items()}
        outputs = {name: network[1:](inputs[name]) for name, network in networks.items()}
        weight = self.config.reconstruction
        decoded = {name: self.decoders[name](rows) for name, rows in outputs.items()} if weight else {}
        return dccae_loss(
            outputs,
            decoded,
            {name: rows.detach() for name, rows in inputs.items()},
            reconstruction=weight,
            ridge=self.config.ridge,
            square_ridge=self.config.square_ridge,
        )
