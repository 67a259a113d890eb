"""Retrieved examples to look at: a few queries in both directions, each with what the model ranks first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.ranking import Array, nearest
from xmr_e2e.methods.base import Similarity
from xmr_e2e.shards.media import UnusableImage, decode_rgb, resize_to_jpeg

Direction: TypeAlias = Literal["image_to_text", "text_to_image"]

THUMBNAIL = 160
"""The longer side of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Item:
    """A pair of the split, to be shown."""

    key: str
    image: bytes
    """a thumbnail, JPEG"""
    texts: tuple[str, ...]
    labels: tuple[str, ...]


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

    direction: Direction
    query: Item
    results: tuple[Result, ...]
    pair_rank: int
    """rank of the query's own pair, from 1"""
    gallery: int
    """number of items that were ranked"""


def retrieved_examples(
    image: Array,
    text: Array,
    labels: Array,
    reader: SplitReader,
    *,
    similarity: Similarity,
    per_direction: int = 6,
    shown: int = 5,
    seed: int = 0,
) -> list[Example]:
    """Queries spread over the classes, the same ones for the same seed, and their first results.

    image, text: (n, d) embeddings, labels: (n, c) multi-hot, in order of position in the reader's split.
    Returns `per_direction` image queries, then as many text queries.
    Raises XmrError for NaN or infinite embeddings and for a picture that cannot be decoded.
    """
    classes = torch.as_tensor(labels).cpu().numpy()
    if not len(image) == len(text) == len(classes) == len(reader):
        raise ValueError(f"{len(image)} images, {len(text)} texts, {len(classes)} labels, {len(reader)} samples")
    rng = np.random.default_rng(seed)
    ways: tuple[tuple[Direction, Array, Array], ...] = (("image_to_text", image, text), ("text_to_image", text, image))
    examples = []
    for direction, queries, gallery in ways:
        positions = _spread_over_classes(classes, per_direction, rng)
        order, scores = nearest(queries[positions], gallery, similarity=similarity)
        for position, row, row_scores in zip(positions, order.tolist(), scores.tolist()):
            top = zip(row[:shown], row_scores)
            results = tuple(_result(reader, classes, position, item, score) for item, score in top)
            pair_rank = row.index(position) + 1
            examples.append(Example(direction, _item(reader, position), results, pair_rank, len(row)))
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
    """Positions of random samples: one of each class, then a second one of each, until there are `count`.

    A sample of several classes stands for its first.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for position in rng.permutation(len(labels)).tolist():
        by_class[int(labels[position].argmax())].append(position)
    turns = zip_longest(*by_class.values())
    return [position for turn in turns for position in turn if position is not None][:count]


def _result(reader: SplitReader, labels: NDArray[Any], query: int, item: int, score: float) -> Result:
    relevant = bool((labels[query] * labels[item]).any())
    return Result(_item(reader, item), score, relevant, paired=item == query)


def _item(reader: SplitReader, position: int) -> Item:
    record = reader.read(position)
    try:
        image = thumbnail(record.image)
    except UnusableImage as error:
        raise XmrError(f"{record.where}: {error}") from error
    return Item(record.key, image, record.metadata.texts, record.metadata.labels)
