"""Retrieved examples to look at: a few queries of each direction, each with what the model ranks first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.directions import direction_name, rows_by_modality
from xmr_e2e.evaluation.ranking import Array, nearest
from xmr_e2e.methods.base import Similarity
from xmr_e2e.shards.media import UnusableImage, decode_rgb, resize_to_jpeg

THUMBNAIL = 160
"""The longer side of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Item:
    """A sample of the split, to be shown."""

    key: str
    source: str
    """the id in the publisher's files"""
    image: bytes | None
    """a thumbnail, JPEG; None for a sample without a picture"""
    texts: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.source or self.key


@dataclass(frozen=True)
class Result:
    """One retrieved item."""

    item: Item
    score: float
    relevant: bool
    """shares a label with the query: what mAP counts"""
    paired: bool
    """is the query's own pair: what R@k counts"""


@dataclass(frozen=True)
class Example:
    """A query and the first of its results, best first."""

    direction: str
    """"image_to_text", …"""
    query: Item
    results: tuple[Result, ...]
    pair_rank: int | None
    """rank of the query's own pair, from 1; None where it has none in the gallery"""
    gallery: int
    """number of items that were ranked"""


def retrieved_examples(
    embeddings: Mapping[str, Array],
    labels: Array,
    reader: SplitReader,
    *,
    positions: Mapping[str, Array] | None = None,
    similarity: Similarity,
    per_direction: int = 6,
    shown: int = 5,
    seed: int = 0,
) -> list[Example]:
    """Queries spread over the classes, the same ones for the same seed, and their first results.

    embeddings: modality -> (n_m, d). labels: (n, c) multi-hot, of all n samples of the reader's split.
    positions: modality -> (n_m,) the ascending positions of its rows; None where every modality has all n.
    Returns `per_direction` examples of each ordered pair of modalities.
    Raises XmrError for NaN or infinite embeddings and for a picture that cannot be decoded.
    """
    classes = torch.as_tensor(labels).cpu().numpy()
    if len(classes) != len(reader):
        raise ValueError(f"{len(classes)} labels, {len(reader)} samples")
    places = rows_by_modality(embeddings, len(reader), positions)
    rng = np.random.default_rng(seed)
    examples = []
    for query, gallery in permutations(embeddings, 2):
        rows = _spread_over_classes(classes[places[query]], per_direction, rng)
        order, scores = nearest(embeddings[query][rows], embeddings[gallery], similarity=similarity)
        found = zip(places[query][rows].tolist(), places[gallery][order.numpy(force=True)], scores.tolist())
        for position, ranking, row_scores in found:
            top = zip(ranking[:shown].tolist(), row_scores)
            results = tuple(_result(reader, classes, position, item, score) for item, score in top)
            own = np.flatnonzero(ranking == position)
            pair_rank = int(own[0]) + 1 if len(own) else None
            name = direction_name(query, gallery)
            examples.append(Example(name, _item(reader, position), results, pair_rank, len(ranking)))
    return examples


def thumbnail(data: bytes) -> bytes:
    """A small JPEG of an image, its longer side at most THUMBNAIL pixels.

    Raises:
        UnusableImage: the image cannot be decoded.
    """
    image = decode_rgb(data)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return resize_to_jpeg(image, THUMBNAIL)


def _spread_over_classes(labels: NDArray[Any], count: int, rng: np.random.Generator) -> list[int]:
    """Rows of random samples: one of each class, then a second one of each, until there are `count`.

    A sample of several classes stands for its first.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for row in rng.permutation(len(labels)).tolist():
        by_class[int(labels[row].argmax())].append(row)
    turns = zip_longest(*by_class.values())
    return [row for turn in turns for row in turn if row is not None][:count]


def _result(reader: SplitReader, labels: NDArray[Any], query: int, item: int, score: float) -> Result:
    relevant = bool((labels[query] * labels[item]).any())
    return Result(_item(reader, item), score, relevant, paired=item == query)


def _item(reader: SplitReader, position: int) -> Item:
    record = reader.read(position)
    about = record.metadata
    try:
        image = thumbnail(record.image) if record.image is not None else None
    except UnusableImage as error:
        raise XmrError(f"{record.where}: {error}") from error
    return Item(record.key, about.source, image, about.texts, about.labels)
