"""The common space as a map: t-SNE of some items of every modality (van der Maaten and Hinton, 2008)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.evaluation.classes import NO_CLASS, one_hot, rarest_label, spread_over_classes
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.similarity import Similarity

ITEMS = 1000
"""Of all modalities: t-SNE of them takes about 7 seconds of a core, of twice as many 15."""
FEWEST = 6
"""A map of fewer items says nothing."""


@dataclass(frozen=True)
class Projection:
    """A map of items."""

    points: dict[str, NDArray[np.float32]]
    """modality -> (n_m, 2)"""
    classes: dict[str, NDArray[np.int64]]
    """modality -> (n_m,) the class that each stands for: the rarest of its labels, or NO_CLASS without labels"""
    items: int
    """number of items to choose from"""
    is_multi_label: bool

    @property
    def is_labeled(self) -> bool:
        return not all((classes == NO_CLASS).all() for classes in self.classes.values())

    @property
    def shown(self) -> int:
        return sum(map(len, self.points.values()))


def project(embedded: EmbeddedSplit, *, similarity: Similarity, seed: int = 0) -> Projection | None:
    """t-SNE of at most ITEMS items, drawn evenly over the classes, the same ones for the same seed.

    As many of each modality; where all have the same samples, the same samples of each. Distances are Euclidean, of
    rows of unit length where the model compares by angle ("cosine", "pearson"). None for fewer than FEWEST items.
    """
    drawn = drawn_items(embedded, seed)
    rows = {
        name: _as_compared(embedded.embeddings[name].float().numpy(force=True)[own], similarity)
        for name, own in drawn.items()
    }
    together = np.concatenate(list(rows.values()))
    if len(together) < FEWEST:
        return None
    ends = np.cumsum([len(each) for each in rows.values()])[:-1]
    return _projection(embedded, drawn, dict(zip(rows, np.split(_tsne(together, seed), ends))))


def project_features(
    embedded: EmbeddedSplit, features: Mapping[str, NDArray[np.float32]], *, seed: int = 0
) -> dict[str, Projection]:
    """t-SNE of what the towers give of the drawn items, in a map of its own for each modality, since what networks
    give of different media has no distances between; none of fewer than FEWEST items.

    Args:
        features: modality -> (m, width), of the items that `drawn_items` gives for the same seed.
    """
    drawn = drawn_items(embedded, seed)
    return {
        name: _projection(embedded, {name: drawn[name]}, {name: _tsne(rows, seed)})
        for name, rows in features.items()
        if len(rows) >= FEWEST
    }


def drawn_items(embedded: EmbeddedSplit, seed: int = 0) -> dict[str, list[int]]:
    """Modality -> the items that maps show, at most ITEMS of all modalities."""
    share = ITEMS // len(embedded.modalities)
    return {
        name: spread_over_classes(one_hot(embedded.items(name).labels), share, np.random.default_rng(seed))
        for name in embedded.modalities
    }


def _projection(
    embedded: EmbeddedSplit, drawn: Mapping[str, list[int]], points: dict[str, NDArray[np.float32]]
) -> Projection:
    labels = {name: one_hot(embedded.items(name).labels) for name in points}
    return Projection(
        points,
        {name: rarest_label(own)[drawn[name]] for name, own in labels.items()},
        items=sum(map(len, labels.values())),
        is_multi_label=any(bool((own.sum(1) > 1).any()) for own in labels.values()),
    )


def _as_compared(rows: NDArray[np.float32], similarity: Similarity) -> NDArray[np.float32]:
    if similarity == "pearson":
        rows = rows - rows.mean(1, keepdims=True)
    if similarity in ("cosine", "pearson"):
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def _tsne(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE  # takes a second to import, and only reports need it
    from threadpoolctl import threadpool_limits

    # the principal components keep what is far apart apart; a space that has collapsed to a point or a line has none
    has_plane = np.count_nonzero(np.ptp(rows, axis=0)) >= 2
    perplexity = min(30.0, (len(rows) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca" if has_plane else "random", random_state=seed)
    # One thread: those of OpenMP wait for each other in loops, thousands of times here, and where other processes have
    # the cores, that takes more than the work.
    with threadpool_limits(1):
        return tsne.fit_transform(rows).astype(np.float32)
