"""Linear CCA as a module: projections that are fitted in closed form and kept with the model."""

from __future__ import annotations

import torch
from torch import Tensor

from xmr_e2e.errors import XmrError
from xmr_e2e.methods.heads import ClosedForm
from xmr_e2e.objectives.cca import linear_cca


class CanonicalProjections(ClosedForm):
    """Rows of two modalities to their k canonical variates; until `fit`, they pass as they are."""

    image_mean: Tensor
    text_mean: Tensor
    image: Tensor
    text: Tensor

    def __init__(self, image_width: int, text_width: int, k: int) -> None:
        super().__init__()
        for name, width in (("image", image_width), ("text", text_width)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(name, torch.zeros(width, k))

    def forward(self, modality: str, rows: Tensor) -> Tensor:
        """(n, width) -> (n, k)."""
        if not self.fitted:
            return rows
        mean, projection = getattr(self, f"{modality}_mean"), getattr(self, modality)
        projected: Tensor = (rows.to(mean) - mean) @ projection
        return projected

    def fit(self, image: Tensor, text: Tensor, *, ridge: float, power: float = 0.0) -> Tensor:
        """Fit to n pairs, (n, width) each; returns the k canonical correlations.

        ridge: added to the covariances' diagonals, as a share of their mean, so that it suits features of any scale. A
            modality whose rows are all alike correlates with nothing.
        power: of a variate's correlation, by which both modalities' are multiplied (Gong et al., 2014, take 4), so that
            variates that hardly correlate weigh less in a similarity; 0 is CCA itself.

        Raises:
            XmrError: NaN or infinite rows; without a ridge, rows that span less than their width.
        """
        x, y = image.double(), text.double()
        for name, rows in (("image", x), ("text", y)):
            if not rows.isfinite().all():
                raise XmrError(
                    f"NaN or infinite {name} embeddings, to which CCA cannot be fitted: lower --optimizer.lr"
                )
        x_scale, y_scale = (_scale(rows) for rows in (x, y))
        try:
            fitted = linear_cca(x / x_scale, y / y_scale, self.image.shape[1], ridge=ridge)
        except torch.linalg.LinAlgError as error:
            raise XmrError(
                f"CCA with the ridge {ridge:g} cannot be fitted: a covariance of the embeddings is singular; raise "
                "--method.ridge (CCA) or --method.linear-ridge (DCCA)"
            ) from error
        self.image_mean.copy_(fitted.x_mean * x_scale)
        self.text_mean.copy_(fitted.y_mean * y_scale)
        weights = fitted.correlations.clamp(min=0) ** power
        self.image.copy_(fitted.x_projection * weights / x_scale)
        self.text.copy_(fitted.y_projection * weights / y_scale)
        self.fitted.fill_(True)
        return fitted.correlations


def _scale(rows: Tensor) -> Tensor:
    """The root of the mean variance; 1 where there is none, since a network that was lost gives the same for all."""
    scale = rows.var(0).mean().sqrt()
    return torch.where(scale > torch.finfo(rows.dtype).eps * rows.abs().max(), scale, 1.0)
