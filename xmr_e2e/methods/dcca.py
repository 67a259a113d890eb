"""DCCA: deep canonical correlation analysis (Andrew et al., 2013), a baseline without labels.

Networks whose outputs correlate as much as possible, then linear CCA on the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from xmr_e2e.methods.correlated import CorrelatedModel, CorrelatedNetworks
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.objectives.cca import correlation_loss
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Dcca(CorrelatedNetworks):
    """DCCA's towers, widths and options."""

    title = "DCCA"
    citation = "Andrew et al., Deep Canonical Correlation Analysis, ICML, 2013"

    def build(self, dataset: DatasetInfo) -> DccaModel:
        return DccaModel(self, dataset)


class DccaModel(CorrelatedModel):
    """The networks and the loss of DCCA. Stages: networks, correlation."""

    def __init__(self, config: Dcca, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config

    def objective(
        self, representations: Mapping[str, Tensor], labels: Tensor, context: StepContext
    ) -> dict[str, Tensor]:
        x, y = (self.networks[name](representations[name]) for name in self.modalities)
        ridge = self.config.ridge
        return {"total": correlation_loss(x, y, ridge=ridge, square_ridge=self.config.square_ridge)}
