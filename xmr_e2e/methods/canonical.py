"""Linear CCA of two modalities or more: projections that are fitted in closed form and kept with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.bounds import NotNegative, Width
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.fitted import FittedMethod, FittedOptions, check_finite_rows
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.methods.stages import Stage
from xmr_e2e.objectives.cca import CanonicalCorrelation, linear_cca, multiview_cca
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class CanonicalOptions(FittedOptions):
    """The options of CCA and MCCA."""

    dim: Width = 10
    """number of canonical variates"""
    ridge: NotNegative = 1e-3
    """added to the covariances' diagonals, as a share of their mean"""
    power: NotNegative = 0.0
    """of a variate's correlation, by which it is weighed in retrieval; 0: all alike, as published"""


class CanonicalMethod(FittedMethod):
    """Towers, their classifiers and the canonical projections. Stages: labels, correlation."""

    def __init__(self, config: CanonicalOptions, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.check_dim(config.dim)
        self.canonical = CanonicalProjections(self.widths(), config.dim)

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self.canonical(modality, self.features(modality, inputs))

    def fit(self, stage: Stage, embeddings: Mapping[str, Tensor], labels: Tensor) -> None:
        self.canonical.fit(embeddings, ridge=self.config.ridge, power=self.config.power)


class CanonicalProjections(ClosedForm):
    """Rows of two modalities or more to their k canonical variates; until `fit`, they pass as they are."""

    def __init__(self, widths: Mapping[str, int], k: int) -> None:
        """widths: by modality."""
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
        """Fit to n paired samples, (n, width) by modality; returns the k canonical correlations.

        ridge: added to the covariances' diagonals, as a share of their mean, so that it suits features of any scale. A
            modality whose rows are all alike correlates with nothing.
        power: of a variate's correlation, by which all modalities' are multiplied (Gong et al., 2014, take 4), so that
            variates that hardly correlate weigh less in a similarity; 0 is CCA itself.

        Raises:
            XmrError: NaN or infinite rows; without a ridge, rows that span less than their width.
        """
        views = [embeddings[name].double() for name in self.modalities]
        check_finite_rows(dict(zip(self.modalities, views)), "CCA")
        scales = [scale_of(rows) for rows in views]
        fitted = self._correlate([rows / scale for rows, scale in zip(views, scales)], ridge)
        weights = fitted.correlations.clamp(min=0) ** power
        for name, mean, projection, scale in zip(self.modalities, fitted.means, fitted.projections, scales):
            getattr(self, f"{name}_mean").copy_(mean * scale)
            getattr(self, name).copy_(projection * weights / scale)
        self.fitted.fill_(True)
        return fitted.correlations

    def _correlate(self, views: Sequence[Tensor], ridge: float) -> CanonicalCorrelation:
        try:
            if len(views) == 2:  # where MCCA is CCA, whose decomposition is as small as the narrower view
                return linear_cca(views[0], views[1], self.k, ridge=ridge)
            return multiview_cca(views, self.k, ridge=ridge)
        except torch.linalg.LinAlgError as error:
            raise XmrError(
                f"CCA with the ridge {ridge:g} cannot be fitted: a covariance of the embeddings is singular; raise "
                "--method.ridge (CCA, MCCA, SCM) or --method.linear-ridge (DCCA, DCCAE)"
            ) from error


def scale_of(rows: Tensor) -> Tensor:
    """The root of the mean variance; 1 where there is none, since a network that was lost gives the same for all."""
    scale = rows.var(0).mean().sqrt()
    return torch.where(scale > torch.finfo(rows.dtype).eps * rows.abs().max(), scale, 1.0)
