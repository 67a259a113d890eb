"""Figures by a protocol: which items are ranked, in which galleries, and how they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_e2e.evaluation.directions import all_directions, cross_modal_metrics, with_average
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.evaluation.figures import CrossModalMetrics, Directions
from xmr_e2e.evaluation.per_query import Discount
from xmr_e2e.evaluation.protocol import CLEAN, Protocol
from xmr_e2e.evaluation.retrieval import average_metrics
from xmr_e2e.similarity import Similarity


def directions(embedded: EmbeddedSplit, similarity: Similarity, protocol: Protocol = CLEAN) -> Directions:
    """All directions of one gallery as the protocol has them, without random rows.

    Args:
        similarity: the method's own.
    """
    return all_directions(
        embedded, similarity=protocol.similarity or similarity, discounts=_discounts(embedded, protocol)
    )


def evaluate_protocol(
    queries: EmbeddedSplit,
    similarity: Similarity,
    protocol: Protocol = CLEAN,
    *,
    gallery: EmbeddedSplit | None = None,
    folds: NDArray[np.int64] | None = None,
) -> CrossModalMetrics:
    """Everything that a result file says, as the protocol has it. Called by every rank.

    Args:
        similarity: the method's own.
        gallery: what is ranked, where it is not the queries' own set.
        folds: (n,) of the queries' samples; each is a gallery of its own, and the mean over them is returned.
    """
    if folds is not None:
        parts = [select_samples(queries, np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
        return _mean([evaluate_protocol(part, similarity, protocol) for part in parts])
    return cross_modal_metrics(
        queries,
        gallery,
        similarity=protocol.similarity or similarity,
        discounts=_discounts(queries, protocol),
    )


def first_samples(embedded: EmbeddedSplit, count: int) -> EmbeddedSplit:
    """The first samples alone, at the same positions."""
    return select_samples(embedded, np.arange(count))


def select_samples(embedded: EmbeddedSplit, samples: NDArray[np.int64]) -> EmbeddedSplit:
    """These samples (ascending) with all their items, numbered again from 0."""
    chosen = torch.from_numpy(samples)
    rows, positions = {}, {}
    for modality, own in embedded.positions.items():
        here = chosen.to(own.device)
        kept = torch.isin(own, here)
        rows[modality] = embedded.embeddings[modality][kept]
        positions[modality] = torch.searchsorted(here, own[kept])
    keys = tuple(embedded.keys[sample] for sample in samples.tolist())
    return EmbeddedSplit(rows, positions, embedded.labels[chosen.to(embedded.labels.device)], keys)


def concat(first: EmbeddedSplit, second: EmbeddedSplit) -> EmbeddedSplit:
    """The samples of both, the first's before the second's."""
    samples = len(first.keys)
    return EmbeddedSplit(
        {name: torch.cat([rows, second.embeddings[name]]) for name, rows in first.embeddings.items()},
        {name: torch.cat([own, second.positions[name] + samples]) for name, own in first.positions.items()},
        torch.cat([first.labels, second.labels]),
        first.keys + second.keys,
    )


def _discounts(queries: EmbeddedSplit, protocol: Protocol) -> Mapping[str, Discount]:
    """Direction -> NDCG's discount, where it is not the ordinary one."""
    if protocol.ndcg_stride is None or "text" not in queries.positions:
        return {}
    own = queries.positions["text"]
    first = torch.searchsorted(own, own)  # of each sample's captions
    offsets = torch.arange(len(own), device=own.device) - first
    return {"text_to_image": Discount(protocol.ndcg_stride, offsets)}


def _mean(parts: Sequence[CrossModalMetrics]) -> CrossModalMetrics:
    model, random = (_mean_directions([getattr(part, which) for part in parts]) for which in ("model", "random"))
    folds = f"mean over {len(parts)} folds, each a gallery of its own"
    return CrossModalMetrics(model, random, {**parts[0].definitions, "folds": folds})


def _mean_directions(parts: Sequence[Directions]) -> Directions:
    metrics = {name: average_metrics([part.directions[name] for part in parts]) for name in parts[0].directions}
    pools = {name: average_metrics([part.pools[name] for part in parts]) for name in parts[0].pools}
    return replace(with_average(metrics), pools=pools)
