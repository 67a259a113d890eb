"""From shards to batches."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xmr_e2e.bounds import Bounds, Count
from xmr_e2e.data.augment import Augment
from xmr_e2e.data.batch import Batch, Extracted, Regions, Source, Tokens, multi_hot
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.images import load_square
from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.plan import BalancedPlan, EpochPlan, MixedPlan
from xmr_e2e.data.randomness import uniform
from xmr_e2e.data.reader import SplitReader, StoredRegions
from xmr_e2e.data.text import pad
from xmr_e2e.data.tokenisers import Tokenisation, Tokeniser, fit_tokeniser
from xmr_e2e.data.unknown import report_unknown, unknown_fractions
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.data.workers import lost_worker, start_loading, worker_options
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.features import UNKNOWN_CLASS
from xmr_e2e.shards.manifest import Manifest
from xmr_e2e.shards.media import MAX_PIXELS

logger = logging.getLogger(__name__)

TEXT_STREAM = 100  # the stream of random numbers that chooses captions; the ones below 100 are the augmentation's

ImageSide = Annotated[int, Bounds(int, least=1, most=10_000)]
"""of the square that a picture becomes, whose pixels are then no more than those of the largest picture that is read"""


@dataclass(frozen=True)
class Data:
    """What is read, and how it becomes batches."""

    shards: Path
    """folder of shards, as the builders in preprocessing/ make it"""
    image_size: ImageSide = 224
    """side in pixels of the square that the image network sees"""
    load_size: ImageSide = 256
    """side in pixels to which pictures are brought, and out of which training crops are taken"""
    texts: Literal["concatenate", "one_caption"] = "concatenate"
    """a sample's texts joined into one, or in each epoch one of them by chance (the first in evaluation)"""
    max_tokens: Count = 300
    """words of a text that are read; for articles such as Wikipedia's"""
    tokens: Tokenisation = Tokenisation()
    words: WordVectors = WordVectors()
    augment: Augment = Augment()
    also: dict[str, Annotated[float, Bounds(float, above=0, most=1000)]] = field(default_factory=dict)
    """further folders, whose training splits are mixed in, and how often an epoch visits each of their samples (0.5:
    every second epoch; 2: twice). Their classes are among those of the shards; validation and test are not mixed"""
    workers: Annotated[int, Bounds(int, least=0, most=1024)] | None = None
    """loader processes per rank; by default the cores of this process, at most 8, divided among the ranks of the
    machine"""

    def __post_init__(self) -> None:
        if self.image_size > self.load_size:
            raise XmrError(f"--data.image-size {self.image_size} must not be above --data.load-size {self.load_size}")


Plan: TypeAlias = EpochPlan | MixedPlan | BalancedPlan


class Request(NamedTuple):
    """The samples of this rank's part of a batch."""

    epoch: int
    positions: NDArray[np.int64]
    stand_in: bool = False
    """the part is empty, and `positions` is that of a stand-in (see `Batch`)"""


class SplitBatches(Dataset[Batch | XmrError]):
    """The samples of a split that have certain modalities, batch by batch: what the loader's workers are asked for."""

    def __init__(
        self,
        data: Data,
        split: str,
        sources: Mapping[str, Source],
        tokeniser: Tokeniser | None,
        *,
        seed: int,
        extracted: Mapping[str, Extracted] | None = None,
        captions: Captions | None = None,
    ) -> None:
        """
        Args:
            sources: modality -> what to read of it. Samples that lack one of these modalities are left out.
            tokeniser: needed where a source is "tokens".
            seed: of the choice of captions.
            extracted: modality -> what a frozen tower made of all samples of the split, in order of position;
                these modalities are not read.
            captions: each of these is an item: a sample's rows repeat, as many as it has, and the only source is a
                text's tokens.
        """
        self.data = data
        self.reader = open_split(data.shards, split, data.also if split == "train" else ())
        self.sources = dict(sources)
        self.tokeniser = tokeniser
        self.seed = seed
        self.extracted = {name: item for name, item in (extracted or {}).items() if name in sources}
        self._to_read = {name: source for name, source in self.sources.items() if name not in self.extracted}
        # None where all samples take part: the list of a billion numbers would fill the memory of every worker.
        self._chosen = None if self.reader.has_all(list(sources)) else self.reader.positions_with(list(sources))
        self._captions: dict[int, tuple[str, ...]] | None = None
        if captions:
            self._captions = captions.of(self.reader, self.at(np.arange(len(self))).tolist())
            self._chosen = np.array(list(self._captions), np.int64)
        if not len(self):
            raise XmrError(f"{data.shards}: no sample of the split {split!r} has {' and '.join(sources)}")

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "extracted": {}}  # gigabytes, which workers need not have: see `complete`

    def __len__(self) -> int:
        return len(self.reader) if self._chosen is None else len(self._chosen)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Of all the items' samples, ascending."""
        return self._items(self.at(np.arange(len(self))))

    def _items(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples' positions, each as often as it has items."""
        if self._captions is None:
            return positions
        return np.repeat(positions, [len(self._captions[position]) for position in positions.tolist()])

    def at(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions in the split of the samples of these numbers, 0 <= number < len(self)."""
        return numbers if self._chosen is None else self._chosen[numbers]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many of the samples each of the folders has."""
        if isinstance(self.reader, SplitReader):
            return (len(self),)
        ends = np.cumsum(self.reader.sizes)
        if self._chosen is not None:
            ends = np.searchsorted(self._chosen, ends)
        return tuple(np.diff(ends, prepend=0).tolist())

    @cached_property
    def classes(self) -> tuple[NDArray[np.int64], ...]:
        """Class by class, which of the samples it has; of several labels, a sample counts to the rarest."""
        labels = [self.reader.labels(position) for position in self.positions.tolist()]
        counts = Counter(label for row in labels for label in row)
        rarest = np.array([min(row, key=lambda label: (counts[label], label), default=-1) for row in labels])
        return tuple(np.flatnonzero(rarest == label) for label in np.unique(rarest[rarest >= 0]).tolist())

    @property
    def reads(self) -> bool:
        """Whether anything but labels has to be read."""
        return bool(self._to_read)

    def has_pixels(self, modality: str) -> bool:
        """Whether its inputs are pictures as the loader decodes them, to be prepared on the device."""
        return self._to_read.get(modality) == "pixels"

    def __getitem__(self, request: Request) -> Batch | XmrError:
        """The batch, but for what was extracted; or the error in its data: raised in a worker, it would reach the user
        as torch's traceback."""
        try:
            return self._load(request)
        except XmrError as error:
            return error

    def complete(self, batch: Batch) -> Batch:
        """The batch, with what frozen towers made of its samples."""
        # A stand-in may be any sample.
        positions = batch.positions.numpy() if len(batch) else np.zeros(1, np.int64)
        extracted = {name: item.rows(positions) for name, item in self.extracted.items()}
        return batch.with_inputs({name: {**extracted, **batch.inputs}[name] for name in self.sources})

    def _load(self, request: Request) -> Batch:
        positions = request.positions.tolist()
        inputs: dict[str, Any] = {}
        for modality, source in self._to_read.items():
            match source:
                case "pixels":
                    inputs[modality] = torch.stack([self._square(position) for position in positions])
                case "tokens":
                    inputs[modality] = self._tokens(request)
                case "vector":
                    rows = [self.reader.features(position, modality) for position in positions]
                    inputs[modality] = torch.from_numpy(np.stack(rows))
                case "regions":
                    inputs[modality] = _stack_regions([self.reader.regions(position) for position in positions])
        counted = self._items(request.positions[: 0 if request.stand_in else None])
        return Batch(
            inputs=inputs,
            labels=self.labels(counted),
            positions=torch.from_numpy(counted),
            keys=tuple(self.reader.key(position) for position in counted.tolist()),
            epoch=request.epoch,
        )

    def labels(self, positions: NDArray[np.int64]) -> Tensor:
        """Labels of the samples at these positions of the split, (n, c) multi-hot."""
        return multi_hot([self.reader.labels(p) for p in positions.tolist()], len(self.reader.manifest.classes))

    def _square(self, position: int) -> Tensor:
        """The picture, uint8 (3, load_size, load_size)."""
        cap = self.reader.manifest.max_pixels or MAX_PIXELS
        image, where = self.reader.image(position), self.reader.where(position)
        return load_square(image, self.data.load_size, where=where, max_pixels=cap)

    def _tokens(self, request: Request) -> Tokens:
        assert self.tokeniser is not None, "texts are read with a tokeniser"
        rows = self._rows_of_text(request)
        return pad([self.tokeniser.encode(" ".join(text), max_tokens=self.data.max_tokens) for text in rows])

    def _rows_of_text(self, request: Request) -> Sequence[tuple[str, ...]]:
        """What is joined to the text of each row."""
        if self._captions is not None:
            return [(text,) for position in request.positions.tolist() for text in self._captions[position]]
        texts = [self.reader.metadata(position).texts for position in request.positions.tolist()]
        return [(text,) for text in self._choose(texts, request)] if self.data.texts == "one_caption" else texts

    def _choose(self, texts: Sequence[tuple[str, ...]], request: Request) -> list[str]:
        if self.reader.split != "train":
            return [options[0] for options in texts]
        chances = uniform(self.seed, request.epoch, request.positions, TEXT_STREAM)
        return [options[int(chance * len(options))] for options, chance in zip(texts, chances)]


def sample_bytes(data: Data, sources: Mapping[str, Source], manifest: Manifest) -> int:
    """Of a sample as a loader's process hands it over, at most."""
    each = {
        "pixels": 3 * data.load_size**2,
        "tokens": 8 * (data.max_tokens + 1),
        "regions": (4 * math.prod(manifest.shapes.get("regions", ())) + 28 * manifest.shapes.get("regions", (0,))[0]),
    }
    read = sum(each.get(source, 4 * manifest.widths.get(name, 0)) for name, source in sources.items())
    return read + 4 * len(manifest.classes) + 8


def _stack_regions(regions: Sequence[StoredRegions]) -> Regions:
    columns = (np.stack(column) for column in zip(*regions))
    features, boxes, classes = (torch.from_numpy(column) for column in columns)
    return Regions(features.float(), boxes, None if (classes == UNKNOWN_CLASS).any() else classes)


@dataclass(frozen=True)
class Loader:
    """This rank's batches of one split."""

    batches: SplitBatches
    batch_size: int
    """of the global batch"""
    rank: int = 0
    world_size: int = 1
    pin_memory: bool = False
    batch_classes: int | None = None
    """classes of each batch, where batches are class-balanced"""

    def __post_init__(self) -> None:
        if self.batch_classes is None:
            return
        available, reader = len(self.batches.classes), self.batches.reader
        if self.batch_classes > available:
            raise XmrError(
                f"--train.batch-classes {self.batch_classes}: {reader.folder} has samples of {available} classes"
            )
        if self.batch_size % self.batch_classes:
            raise XmrError(
                f"--train.batch-size {self.batch_size} is no multiple of --train.batch-classes {self.batch_classes}"
            )
        if self.batches.data.also:
            raise XmrError("--train.batch-classes and --data.also do not go together: either decides what is drawn")

    def plan(self, epoch: int) -> Plan:
        """What each batch of an epoch holds; a function of the data and the options, not of ranks and workers."""
        batches, size, seed = self.batches, self.batch_size, self.batches.seed
        if batches.reader.split != "train":
            return EpochPlan(len(batches), size, shuffle=False)
        if self.batch_classes:
            return BalancedPlan(batches.classes, size, self.batch_classes, seed, epoch)
        if batches.data.also:
            return MixedPlan(batches.sizes, (1.0, *batches.data.also.values()), size, seed, epoch)
        return EpochPlan(len(batches), size, seed, epoch)

    @property
    def steps(self) -> int:
        """Batches per epoch, the same on every rank."""
        return self.plan(0).steps

    def epoch(self, epoch: int = 0, *, first_step: int = 0) -> Iterator[Batch]:
        """This rank's parts of the global batches of an epoch, from `first_step` on.

        Raises:
            XmrError: a sample that cannot be read or decoded; names shard and key.
        """
        plan = self.plan(epoch)
        requests = (self._request(plan, epoch, step) for step in range(first_step, plan.steps))
        workers = self.batches.data.workers if self.batches.reads else 0
        loader: DataLoader[Batch | XmrError] = DataLoader(
            self.batches,
            batch_size=None,  # the plan makes the batches
            sampler=_Requests(requests),
            pin_memory=self.pin_memory,
            # Its own generator: the loader must not draw from the training's random numbers.
            generator=torch.Generator(),
            **worker_options(workers, self.world_size),
        )
        try:
            for batch in start_loading(loader):
                if isinstance(batch, XmrError):
                    raise batch
                yield self.batches.complete(batch)
        except (ConnectionError, EOFError) as error:  # a worker is gone, and torch has not noticed yet
            raise lost_worker(error) from error
        except RuntimeError as error:
            if "DataLoader worker" in str(error):
                raise lost_worker(error) from error
            raise

    def _request(self, plan: Plan, epoch: int, step: int) -> Request:
        part = plan.batch(step, self.rank, self.world_size)
        if len(part):
            return Request(epoch, self.batches.at(part))
        return Request(epoch, self.batches.at(plan.batch(step)[:1]), stand_in=True)


class _Requests:
    """An iterable of requests in the shape that DataLoader calls a sampler."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return self._requests


def fit_words(data: Data) -> tuple[Tokeniser, NDArray[np.float32]]:
    """Tokeniser and word vectors (len(tokeniser), dim) from the training split's texts; says how many words of each
    split's texts are unknown to it."""
    reader = open_split(data.shards, "train", data.also)
    texts = [text for position in range(len(reader)) for text in reader.metadata(position).texts]
    logger.info("fitting words and their vectors to %s texts", f"{len(texts):,}")
    tokeniser, vectors = fit_tokeniser(texts, data.tokens, data.words)
    report_unknown(unknown_fractions(data.shards, tokeniser))
    return tokeniser, vectors
