"""Linear CCA as a module: projections that are fitted in closed form and kept with the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmr_e2e.objectives.cca import linear_cca


class CanonicalProjections(nn.Module):
    """Rows of two modalities to their k canonical variates; until `fit`, they pass as they are."""

    image_mean: Tensor
    text_mean: Tensor
    image: Tensor
    text: Tensor
    fitted: Tensor

    def __init__(self, image_width: int, text_width: int, k: int) -> None:
        super().__init__()
        for name, width in (("image", image_width), ("text", text_width)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(name, torch.zeros(width, k))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, modality: str, rows: Tensor) -> Tensor:
        """(n, width) -> (n, k)."""
        if not self.fitted:
            return rows
        mean, projection = getattr(self, f"{modality}_mean"), getattr(self, modality)
        projected: Tensor = (rows.to(mean) - mean) @ projection
        return projected

    def fit(self, image: Tensor, text: Tensor, *, ridge: float) -> Tensor:
        """Fit to n pairs, (n, width) each; returns the k canonical correlations.

        ridge: added to the covariances' diagonals, as a share of their mean, so that it suits features of any scale.
        """
        x, y = image.double(), text.double()
        x_scale, y_scale = (rows.var(0).mean().sqrt() for rows in (x, y))
        fitted = linear_cca(x / x_scale, y / y_scale, self.image.shape[1], ridge=ridge)
        self.image_mean.copy_(fitted.x_mean * x_scale)
        self.text_mean.copy_(fitted.y_mean * y_scale)
        self.image.copy_(fitted.x_projection / x_scale)
        self.text.copy_(fitted.y_projection / y_scale)
        self.fitted.fill_(True)
        return fitted.correlations
