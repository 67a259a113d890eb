"""The tower of published features: nothing to learn, they are taken as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig


@dataclass(frozen=True)
class VectorTower(TowerConfig):
    """A modality's published features (d,), as the shards hold them."""

    kind = "vector"
    input_kind = "vector"
    has_published_weights = True  # of whatever has made the features

    scale: Literal["none", "unit"] = "none"
    """unit: each sample's features are divided by their L2 norm"""

    def build(self, dataset: DatasetInfo, modality: str) -> VectorEncoder:
        """Raises XmrError where the shards hold no features of the modality."""
        if modality not in dataset.widths:
            held = ", ".join(sorted(dataset.widths)) or "none at all"
            raise XmrError(
                f"the shards hold no published features of {modality} (features there: {held}); choose a tower that "
                f"reads the raw {modality} for --method.{modality}, or build the shards with its features"
            )
        return VectorEncoder(dataset.widths[modality], unit=self.scale == "unit")


class VectorEncoder(nn.Module):
    """Features (n, dim) -> (n, dim)."""

    dim: int

    def __init__(self, dim: int, *, unit: bool) -> None:
        super().__init__()
        self.dim = dim
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=1) if self.unit else features
