"""Queries to look at, each with what the model ranks first: some of every class, and the worst failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from xmr_e2e.data.captions import Captions
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.classes import one_hot, spread_over_classes
from xmr_e2e.evaluation.embedded import Items
from xmr_e2e.evaluation.inspection import RankingSample
from xmr_e2e.reports.media_previews import MediaPreviews, Preview
from xmr_e2e.shards.media import PILLOW_MAX_PIXELS, UnusableImage, thumbnail

THUMBNAIL = 160
"""The longer side of a thumbnail, in pixels."""
SHOWN = 5
"""Results of each query, as in the papers' figures."""


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
    preview: Preview | None = None
    """of the sound, video or shape that asked or was ranked; None for pictures, texts and published features"""

    @property
    def name(self) -> str:
        return self.source or self.key


@dataclass(frozen=True)
class Result:
    """One retrieved item."""

    item: Item
    score: float
    relevant: bool
    """shares a label with the query: what mAP counts; without labels, the same as `paired`"""
    paired: bool
    """is the query's own pair: what R@k counts"""


@dataclass(frozen=True)
class Example:
    """A query and the first of its results, best first."""

    direction: str
    """"image_to_text", …"""
    query: Item
    results: tuple[Result, ...]
    pair: Item | None
    """the query's own pair, the ground truth of R@k; None where it has none in the gallery"""
    pair_rank: int
    """its rank, from 1; 0 where there is none"""
    precision: float
    """average precision of the whole ranking; without labels, 1 over the rank of its first pair"""
    gallery: int
    """number of items that were ranked"""

    @property
    def shows_pair(self) -> bool:
        """True where its pair is among the results."""
        return any(result.paired for result in self.results)


class SampleLookup:
    """A lookup of the samples of some splits by their keys.

    captions: which texts are items of their own; None where a sample has one text, all that are written for it.
    previews: of the media of all items that are looked up; those of one page.
    """

    def __init__(
        self,
        readers: Sequence[SplitReader],
        captions: Captions | None = None,
        previews: MediaPreviews | None = None,
    ) -> None:
        self._previews = previews or MediaPreviews()
        self._places = {reader.key(place): (reader, place) for reader in readers for place in range(len(reader))}
        self._captions = {
            reader.key(place): texts
            for reader in readers
            for place, texts in (captions.of(reader, range(len(reader))) if captions else {}).items()
        }

    def item(self, items: Items, row: int, modality: str) -> Item:
        """The sample of an embedded item; of its texts the one that was embedded, where each is an item of its own.

        A sound, video or shape that cannot be decoded has the reason in place of its preview.

        Raises:
            XmrError: its picture cannot be decoded.
        """
        key = str(items.keys[row])
        reader, place = self._places[key]
        record = reader.read(place)
        about = record.metadata
        try:
            image = None
            if record.image is not None:
                image = thumbnail(record.image, THUMBNAIL, max_pixels=PILLOW_MAX_PIXELS)
        except UnusableImage as error:
            raise XmrError(f"{record.where}: {error}") from error
        preview = self._previews.of(reader, place, modality)
        item = Item(record.key, about.source, image, about.texts, about.labels, preview)
        if modality == "text" and self._captions:
            number = row - int(np.argmax(items.keys == key))  # the items of a sample stand together
            item = replace(item, texts=(self._captions[key][number],))
        return item


def spread_examples(inspected: RankingSample, shelf: SampleLookup, count: int, *, seed: int = 0) -> list[Example]:
    """Random queries, one of each class, then a second one of each; the same ones for the same seed."""
    return examples_of(inspected, shelf, spread_queries(inspected, count, seed=seed))


def spread_queries(inspected: RankingSample, count: int, *, seed: int = 0) -> list[int]:
    """The numbers of those of the m queries that `spread_examples` shows."""
    labels = one_hot(inspected.queries.labels)[inspected.rows]
    return spread_over_classes(labels, count, np.random.default_rng(seed))


def worst_failures(inspected: RankingSample, shelf: SampleLookup, count: int) -> list[Example]:
    """The queries with the least average precision, or without labels those whose pair comes last, the worst first.

    Only among those that have something to find, and whose first result is wrong.
    """
    failed = np.flatnonzero(inspected.relevant & ~inspected.right_first)
    worst = failed[np.argsort(inspected.precision[failed], kind="stable")][:count]
    return examples_of(inspected, shelf, worst.tolist())


def examples_of(inspected: RankingSample, shelf: SampleLookup, asked: list[int]) -> list[Example]:
    """The examples of these of the m queries."""
    if not asked:
        return []
    scores = inspected.scores(asked, SHOWN).tolist()
    return [_example(inspected, shelf, number, row) for number, row in zip(asked, scores)]


def _example(inspected: RankingSample, shelf: SampleLookup, number: int, scores: list[float]) -> Example:
    queries, items = inspected.queries, inspected.items
    row, pair = int(inspected.rows[number]), int(inspected.pair[number])
    results = tuple(
        Result(
            shelf.item(items, found, inspected.gallery),
            score,
            relevant=_is_right(inspected, row, found),
            paired=items.keys[found] == queries.keys[row],
        )
        for found, score in zip(inspected.first[number].tolist(), scores)
    )
    return Example(
        direction=inspected.direction,
        query=shelf.item(queries, row, inspected.query),
        results=results,
        pair=shelf.item(items, pair, inspected.gallery) if pair >= 0 else None,
        pair_rank=int(inspected.pair_rank[number]),
        precision=float(inspected.precision[number]),
        gallery=len(items.keys),
    )


def _is_right(inspected: RankingSample, query: int, item: int) -> bool:
    if not inspected.is_labeled:
        return bool(inspected.items.keys[item] == inspected.queries.keys[query])
    return _shared(inspected.queries.labels[query], inspected.items.labels[item])


def _shared(one: Tensor, other: Tensor) -> bool:
    """True where two items share a label: classes (), or multi-hot (c,)."""
    return bool((one == other) if one.ndim == 0 else (one * other).any())
