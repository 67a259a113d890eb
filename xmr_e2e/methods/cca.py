"""CCA: linear canonical correlation analysis on the features of towers that learned the labels, a baseline."""

from __future__ import annotations

from dataclasses import dataclass

from xmr_e2e.methods.canonical import CanonicalMethod, CanonicalOptions
from xmr_e2e.towers.base import DatasetInfo


@dataclass(frozen=True, kw_only=True)
class Cca(CanonicalOptions):
    """CCA's towers and options."""

    title = "CCA"
    citation = "Hotelling, Relations between Two Sets of Variates, Biometrika, 1936"
    most_modalities = 2

    def build(self, dataset: DatasetInfo) -> CanonicalMethod:
        return CanonicalMethod(self, dataset)
