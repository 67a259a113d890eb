"""Figures of every direction of retrieval among two or more modalities, of samples that may lack some of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmr_e2e.evaluation.metrics import (
    Ids,
    Measures,
    RetrievalFigures,
    average_scores,
    random_figures,
    retrieval_figures,
)
from xmr_e2e.evaluation.ranking import Array
from xmr_e2e.methods.base import Similarity


@dataclass(frozen=True)
class Directions:
    """Every ordered pair of modalities."""

    figures: dict[str, RetrievalFigures]
    """"image_to_text", "text_to_image", …: the query's modality first"""
    average: dict[str, float]
    """of each score over the directions that have it"""

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(split_direction(direction)[0] for direction in self.figures))


@dataclass(frozen=True)
class CrossModalFigures:
    """What a result file holds; `dataclasses.asdict` of it is ready for JSON."""

    model: Directions
    random: Directions
    """The same figures for random rankings of the same items."""
    definitions: dict[str, str]
    """How each figure was computed, in words."""


def all_directions(
    embeddings: Mapping[str, Array],
    labels: Array,
    ids: Ids,
    *,
    positions: Mapping[str, Array] | None = None,
    similarity: Similarity = "cosine",
    measures: Measures = Measures(),
) -> Directions:
    """`retrieval_figures` of each pair of modalities of n samples, without the random row: what validation needs.

    embeddings: modality -> (n_m, d). labels: (n, c) multi-hot or (n,) classes, and ids: of all n samples.
    positions: modality -> (n_m,) the ascending sample numbers of its rows; None where every modality has all n.
    Raises XmrError for NaN or infinite embeddings, ValueError for fewer than two modalities or shapes that do not fit.
    """
    return _directions(
        {
            name: retrieval_figures(
                query.rows,
                gallery.rows,
                query.labels,
                gallery.labels,
                query_ids=query.ids,
                gallery_ids=gallery.ids,
                similarity=similarity,
                measures=measures,
            )
            for name, query, gallery in _pairs(embeddings, labels, ids, positions)
        }
    )


def cross_modal_figures(
    embeddings: Mapping[str, Array],
    labels: Array,
    ids: Ids,
    *,
    positions: Mapping[str, Array] | None = None,
    similarity: Similarity = "cosine",
    measures: Measures = Measures(),
    seed: int = 0,
    random_rankings: int = 5,
) -> CrossModalFigures:
    """Everything a result file says about n samples: all directions, the random rows beside them, the definitions.

    The random row of a direction is the mean over `random_rankings` rankings drawn from `seed`.
    Other arguments and errors: see `all_directions`.
    """
    model = all_directions(
        embeddings, labels, ids, positions=positions, similarity=similarity, measures=measures
    )  # first: it refuses what does not fit
    seeds = np.random.SeedSequence(seed).generate_state(len(model.figures) * random_rankings)
    random = {
        name: random_figures(
            query.labels,
            gallery.labels,
            query_ids=query.ids,
            gallery_ids=gallery.ids,
            seeds=own_seeds.tolist(),
            measures=measures,
        )
        for (name, query, gallery), own_seeds in zip(
            _pairs(embeddings, labels, ids, positions), seeds.reshape(-1, random_rankings)
        )
    }
    definitions = _definitions(similarity, measures, random_rankings, seed)
    return CrossModalFigures(model, _directions(random), definitions)


def rows_by_modality(
    embeddings: Mapping[str, Array], samples: int, positions: Mapping[str, Array] | None
) -> dict[str, NDArray[np.int64]]:
    """Modality -> (n_m,) the sample number of each of its rows.

    Raises:
        ValueError: positions that are not ascending numbers of samples, one per row.
    """
    found = {}
    for modality, rows in embeddings.items():
        given = torch.arange(samples) if positions is None else torch.as_tensor(positions[modality])
        own = given.cpu().numpy().astype(np.int64)
        inside = not len(own) or (own[0] >= 0 and own[-1] < samples)
        if len(own) != len(rows) or not inside or (np.diff(own) <= 0).any():
            raise ValueError(f"{modality}: {len(rows)} embeddings with {len(own)} positions among {samples} samples")
        found[modality] = own
    return found


def direction_name(query: str, gallery: str) -> str:
    """The name of a direction in result files: "image_to_text"."""
    return f"{query}_to_{gallery}"


def split_direction(direction: str) -> tuple[str, str]:
    """The modality of the queries and that of the gallery, from a direction's name."""
    query, _, gallery = direction.partition("_to_")
    return query, gallery


def modality_title(modality: str) -> str:
    """A modality as it is written for people."""
    return "3D shape" if modality == "shape3d" else modality


def direction_title(direction: str) -> str:
    """A direction as it is written for people: "image → text"."""
    return " → ".join(map(modality_title, split_direction(direction)))


@dataclass(frozen=True)
class _Side:
    """The items of one modality."""

    rows: Array
    labels: Array
    ids: NDArray[Any]


def _pairs(
    embeddings: Mapping[str, Array], labels: Array, ids: Ids, positions: Mapping[str, Array] | None
) -> Iterator[tuple[str, _Side, _Side]]:
    """Each direction's name, queries and gallery."""
    if len(embeddings) < 2:
        raise ValueError(f"retrieval needs two modalities, got {', '.join(embeddings) or 'none'}")
    if len(ids) != len(labels):
        raise ValueError(f"{len(labels)} samples have {len(ids)} ids")
    numbers = rows_by_modality(embeddings, len(labels), positions)
    names = np.asarray(ids)
    sides = {
        modality: _Side(rows, _take(labels, numbers[modality]), names[numbers[modality]])
        for modality, rows in embeddings.items()
    }
    for query, gallery in itertools.permutations(sides, 2):
        yield direction_name(query, gallery), sides[query], sides[gallery]


def _take(labels: Array, rows: NDArray[np.int64]) -> Array:
    return labels[torch.from_numpy(rows).to(labels.device)] if isinstance(labels, Tensor) else labels[rows]


def _directions(figures: dict[str, RetrievalFigures]) -> Directions:
    return Directions(figures, average_scores([each.scores for each in figures.values()]))


def _definitions(similarity: Similarity, measures: Measures, random_rankings: int, seed: int) -> dict[str, str]:
    return {
        "similarity": similarity,
        "scores": "fp32",
        "ties": "equal scores rank in gallery order",
        "relevance": "at least one shared label",
        "normaliser": measures.normaliser,
        "mAP@k": "mean over queries of the sum of precision(r) over the relevant ranks r <= k, over the normaliser",
        "NDCG@k": "mean over queries of the sum over ranks r <= k of (number of shared labels) / log2(r + 1), over "
        "that of the ideal ranking of the whole gallery",
        "R@k": "share of the queries with a pair (same id) in the gallery that have it among the first k",
        "curve": "mean over queries of the highest precision at any rank whose recall reaches the level",
        "queries_without_relevant": "count 0 and stay in the mean",
        "average": "of each figure over the directions that have it",
        "random": f"mean of {random_rankings} random rankings per direction, seed {seed}",
    }
