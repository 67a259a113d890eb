"""Linear CCA as a module, fitted in closed form and kept with the model, and networks whose outputs it projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import Layers, NotNegative, Width
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, TwoModalities
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.methods.stages import Stage
from xmr_e2e.objectives.cca import linear_cca
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


class CanonicalProjections(ClosedForm):
    """Rows of two modalities to their k canonical variates; until `fit`, they pass as they are."""

    def __init__(self, widths: Mapping[str, int], k: int) -> None:
        """widths: by modality, of two."""
        super().__init__()
        self.modalities, self.k = tuple(widths), k
        for name, width in widths.items():
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(name, torch.zeros(width, k))

    def forward(self, modality: str, rows: Tensor) -> Tensor:
        """(n, width) -> (n, k)."""
        if not self.fitted:
            return rows
        mean, projection = getattr(self, f"{modality}_mean"), getattr(self, modality)
        projected: Tensor = (rows.to(mean) - mean) @ projection
        return projected

    def fit(self, embeddings: Mapping[str, Tensor], *, ridge: float, power: float = 0.0) -> Tensor:
        """Fit to n pairs, (n, width) by modality; returns the k canonical correlations.

        ridge: added to the covariances' diagonals, as a share of their mean, so that it suits features of any scale. A
            modality whose rows are all alike correlates with nothing.
        power: of a variate's correlation, by which both modalities' are multiplied (Gong et al., 2014, take 4), so that
            variates that hardly correlate weigh less in a similarity; 0 is CCA itself.

        Raises:
            XmrError: NaN or infinite rows; without a ridge, rows that span less than their width.
        """
        x, y = (embeddings[name].double() for name in self.modalities)
        for name, rows in zip(self.modalities, (x, y)):
            if not rows.isfinite().all():
                raise XmrError(
                    f"NaN or infinite {name} embeddings, to which CCA cannot be fitted: lower --optimizer.lr"
                )
        x_scale, y_scale = (_scale(rows) for rows in (x, y))
        try:
            fitted = linear_cca(x / x_scale, y / y_scale, self.k, ridge=ridge)
        except torch.linalg.LinAlgError as error:
            raise XmrError(
                f"CCA with the ridge {ridge:g} cannot be fitted: a covariance of the embeddings is singular; raise "
                "--method.ridge (CCA) or --method.linear-ridge (DCCA, DCCAE)"
            ) from error
        weights = fitted.correlations.clamp(min=0) ** power
        for name, mean, projection, scale in zip(
            self.modalities,
            (fitted.x_mean, fitted.y_mean),
            (fitted.x_projection, fitted.y_projection),
            (x_scale, y_scale),
        ):
            getattr(self, f"{name}_mean").copy_(mean * scale)
            getattr(self, name).copy_(projection * weights / scale)
        self.fitted.fill_(True)
        return fitted.correlations


def _scale(rows: Tensor) -> Tensor:
    """The root of the mean variance; 1 where there is none, since a network that was lost gives the same for all."""
    scale = rows.var(0).mean().sqrt()
    return torch.where(scale > torch.finfo(rows.dtype).eps * rows.abs().max(), scale, 1.0)


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
