"""Mixed pools: the items of several modalities as one gallery, in which a query finds whatever kind it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from xmr_e2e.evaluation.embedded import EmbeddedSplit, Items

LEAST = 3
"""modalities: with two, the pool of all others is the other one"""


def mixed_pools(queries: EmbeddedSplit, gallery: EmbeddedSplit) -> Iterator[tuple[str, Items, Items]]:
    """Each modality, its queries, and the items of all other modalities together; nothing below LEAST modalities.

    gallery: where the items are taken from; of the queries' modalities. Several items of a pool may have the key of a
    query, since a sample may have several of the other modalities: each of them is a pair.
    """
    if len(queries.modalities) < LEAST:
        return
    for modality in queries.modalities:
        others = [other for other in queries.modalities if other != modality]
        yield modality, queries.items(modality), pool(gallery, others)


def pool(embedded: EmbeddedSplit, modalities: Sequence[str]) -> Items:
    """The items of these modalities as one set, those of the first modality first."""
    parts = [embedded.items(modality) for modality in modalities]
    return Items(
        torch.cat([each.embeddings for each in parts]),
        torch.cat([each.labels for each in parts]),
        np.concatenate([each.keys for each in parts]),
    )
