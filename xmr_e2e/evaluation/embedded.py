"""Embeddings of a set of samples, of which some may lack modalities and others may have several items of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Items:
    """The items of one modality, as gallery or as queries."""

    embeddings: Tensor
    """(m, d)"""
    labels: Tensor
    """(m, c) or (m,)"""
    keys: NDArray[Any]
    """(m,) of their samples: two items with the same key are a pair"""

    @property
    def is_labeled(self) -> bool:
        """False where there are no labels, (m, 0)."""
        return self.labels.ndim == 1 or self.labels.shape[1] > 0


@dataclass(frozen=True)
class EmbeddedSplit:
    """The items of n samples, on every rank.

    Raises:
        ValueError: positions that are not ascending numbers of samples, one per embedding; not one key per label.
    """

    embeddings: dict[str, Tensor]
    """modality -> (n_m, d), of its n_m items"""
    positions: dict[str, Tensor]
    """modality -> (n_m,) int64, ascending: the sample of each item. A sample without the modality is not there; one
    with several items of it, such as captions, is there as often."""
    labels: Tensor
    """(n, c) multi-hot or (n,) integer classes; (n, 0) where there are no labels"""
    keys: tuple[str, ...]
    """n of them"""

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.labels):
            raise ValueError(f"{len(self.labels)} samples have {len(self.keys)} keys")
        for modality, rows in self.embeddings.items():
            own = self.positions[modality]
            inside = not len(own) or bool(own[0] >= 0 and own[-1] < len(self.keys))
            if len(own) != len(rows) or not inside or bool((own.diff() < 0).any()):
                raise ValueError(
                    f"{modality}: {len(rows)} embeddings do not have ascending positions among "
                    f"{len(self.keys)} samples, but {len(own)}: {own.tolist()[:5]}…"
                )

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.embeddings)

    @property
    def is_labeled(self) -> bool:
        """False where there are no labels to measure by, (n, 0)."""
        return self.labels.ndim == 1 or self.labels.shape[1] > 0

    def without_labels(self) -> EmbeddedSplit:
        """The same items, to be measured by their pairs alone."""
        return replace(self, labels=self.labels.new_zeros(len(self.keys), 0))

    def items(self, modality: str) -> Items:
        """The items of a modality, with the labels and keys of their samples."""
        own = self.positions[modality]
        return Items(
            self.embeddings[modality],
            self.labels[own.to(self.labels.device)],
            np.asarray(self.keys)[own.numpy(force=True)],
        )
