"""Linear CCA as a module: projections that are fitted in closed form and kept with the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.objectives.cca import linear_cca


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
                "--method.ridge (CCA) or --method.linear-ridge (DCCA)"
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
