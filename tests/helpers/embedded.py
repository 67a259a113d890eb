"""Embedded sets from plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from xmr_e2e.evaluation.embedded import EmbeddedSplit


def embedded_split(
    embeddings: Mapping[str, Any],
    labels: Any,
    keys: Iterable[object] | None = None,
    *,
    positions: Mapping[str, Any] | None = None,
) -> EmbeddedSplit:
    """Every sample has every modality where no positions are given; its key is its number where no keys are."""
    count = len(labels)
    places = positions or dict.fromkeys(embeddings, torch.arange(count))
    return EmbeddedSplit(
        {name: torch.as_tensor(rows) for name, rows in embeddings.items()},
        {name: torch.as_tensor(places[name]) for name in embeddings},
        torch.as_tensor(labels),
        tuple(map(str, range(count) if keys is None else keys)),
    )
