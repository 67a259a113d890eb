"""MCCA: canonical correlation analysis of two modalities or more (Rupnik and Shawe-Taylor, 2010), a baseline.

Of two it is CCA; of more, the sum of the correlations of all pairs of modalities is largest.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmr_e2e.methods.canonical import CanonicalMethod, CanonicalOptions
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Mcca(CanonicalOptions):
    """MCCA's towers and options. Samples take part that have all modalities."""

    title = "MCCA"
    citation = "Rupnik and Shawe-Taylor, Multi-View Canonical Correlation Analysis, SiKDD, 2010"

    def build(self, dataset: DatasetInfo) -> CanonicalMethod:
        return CanonicalMethod(self, dataset)
