"""From shards to batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from xmr_e2e.data.augment import Augment
from xmr_e2e.data.batch import Batch, multi_hot
from xmr_e2e.data.images import load_square
from xmr_e2e.data.plan import EpochPlan
from xmr_e2e.data.randomness import uniform
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.text import Vocabulary, pad
from xmr_e2e.data.vectors import WordVectors, fit_word_vectors
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.media import MAX_PIXELS

TEXT_STREAM = 100  # the stream of random numbers that chooses captions; the ones below 100 are the augmentation's


@dataclass(frozen=True)
class Data:
    """What is read, and how it becomes batches."""

    shards: Path
    """folder of shards, as the builders in preprocessing/ make it"""
    image_size: int = 224
    """side in pixels of the square that the image network sees"""
    load_size: int = 256
    """side in pixels to which pictures are brought, and out of which training crops are taken"""
    texts: Literal["concatenate", "one_caption"] = "concatenate"
    """a sample's texts joined into one, or in each epoch one of them by chance (the first in evaluation)"""
    max_tokens: int = 300
    """words of a text that are read; for articles such as Wikipedia's"""
    words: WordVectors = WordVectors()
    augment: Augment = Augment()
    workers: int | None = None
    """loader processes per rank; by default the cores of this process, at most 8, divided among the ranks of the
    machine"""

    def __post_init__(self) -> None:
        if not 0 < self.image_size <= self.load_size:
            raise XmrError(f"--data.image-size {self.image_size} must not be above --data.load-size {self.load_size}")


class Request(NamedTuple):
    """The samples of one batch."""

    epoch: int
    positions: NDArray[np.int64]


class SplitBatches(Dataset[Batch | XmrError]):
    """One split, batch by batch: the loader's workers ask it for the batches of a plan."""

    def __init__(self, data: Data, split: str, vocabulary: Vocabulary, *, seed: int) -> None:
        self.data = data
        self.reader = SplitReader(data.shards, split)
        self.vocabulary = vocabulary
        self.seed = seed

    def __getitem__(self, request: Request) -> Batch | XmrError:
        """The batch, or the error in its data: raised in a worker, it would reach the user as torch's traceback."""
        try:
            return self._load(request)
        except XmrError as error:
            return error

    def _load(self, request: Request) -> Batch:
        records = [self.reader.read(int(position)) for position in request.positions]
        side = self.data.load_size
        cap = self.reader.manifest.options.get("max_pixels", MAX_PIXELS)
        images = np.stack([load_square(r.image, side, where=r.where, max_pixels=cap) for r in records])
        texts = [record.metadata.texts for record in records]
        if self.data.texts == "one_caption":
            texts = [(text,) for text in self._choose(texts, request)]
        words = [self.vocabulary.encode(" ".join(text), max_tokens=self.data.max_tokens) for text in texts]
        return Batch(
            inputs={"image": torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), "text": pad(words)},
            labels=multi_hot([record.labels for record in records], len(self.reader.manifest.classes)),
            positions=torch.from_numpy(request.positions),
            keys=tuple(record.key for record in records),
            epoch=request.epoch,
        )

    def _choose(self, texts: list[tuple[str, ...]], request: Request) -> list[str]:
        if self.reader.split != "train":
            return [options[0] for options in texts]
        chances = uniform(self.seed, request.epoch, request.positions, TEXT_STREAM)
        return [options[int(chance * len(options))] for options, chance in zip(texts, chances)]


@dataclass(frozen=True)
class Loader:
    """This rank's batches of one split."""

    batches: SplitBatches
    batch_size: int
    """of the global batch"""
    rank: int = 0
    world_size: int = 1
    pin_memory: bool = False

    def __post_init__(self) -> None:
        reader = self.batches.reader
        smallest = len(reader) // self.steps
        if smallest < self.world_size:
            raise XmrError(
                f"{reader.folder}: batches of {smallest} samples of the split {reader.split!r} cannot be shared among "
                f"{self.world_size} processes; use fewer processes or a larger --train.batch-size"
            )

    def plan(self, epoch: int) -> EpochPlan:
        reader = self.batches.reader
        return EpochPlan(len(reader), self.batch_size, self.batches.seed, epoch, shuffle=reader.split == "train")

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
        requests = (
            Request(epoch, plan.batch(step, self.rank, self.world_size)) for step in range(first_step, plan.steps)
        )
        workers = self.batches.data.workers
        loader: DataLoader[Batch | XmrError] = DataLoader(
            self.batches,
            batch_size=None,  # the plan makes the batches
            sampler=_Requests(requests),
            num_workers=default_workers(self.world_size) if workers is None else workers,
            pin_memory=self.pin_memory,
            # Its own generator: the loader must not draw from the training's random numbers.
            generator=torch.Generator(),
            worker_init_fn=_leave_signals_to_the_parent,
        )
        for batch in loader:
            if isinstance(batch, XmrError):
                raise batch
            yield batch


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the workers end when the training, which saves first, ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Requests:
    """An iterable of requests in the shape that DataLoader calls a sampler."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return self._requests


def default_workers(world_size: int) -> int:
    """The cores that this process may use, shared among the ranks of this machine, at most 8."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return max(1, min(8, len(os.sched_getaffinity(0)) // local))


def fit_words(data: Data) -> tuple[Vocabulary, NDArray[np.float32]]:
    """Vocabulary and word vectors (len(vocabulary), dim) from the training split's texts."""
    reader = SplitReader(data.shards, "train")
    texts = [text for position in range(len(reader)) for text in reader.metadata(position).texts]
    return fit_word_vectors(texts, data.words)
