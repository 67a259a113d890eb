"""From shards to batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.config import Data
from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.plan import BalancedPlan, EpochPlan, MixedPlan
from xmr_e2e.data.processes import read_batches
from xmr_e2e.data.tokenizers import Tokenizer, fit_tokenizer
from xmr_e2e.data.unknown import report_unknown, unknown_fractions
from xmr_e2e.data.workers import lost_worker
from xmr_e2e.errors import XmrError

logger = logging.getLogger(__name__)


Plan: TypeAlias = EpochPlan | MixedPlan | BalancedPlan


@dataclass(frozen=True)
class Loader:
    """This rank's batches of one split."""

    batches: BatchDataset
    batch_size: int
    """of the global batch"""
    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")
    """where batches are going to be used"""
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
        if self.batches.data.extra_shards:
            raise XmrError(
                "--train.batch-classes and --data.extra-shards do not go together: either decides what is drawn"
            )

    def plan(self, epoch: int) -> Plan:
        """The content of each batch of an epoch; a function of the data and the options, not of ranks and workers."""
        batches, size, seed = self.batches, self.batch_size, self.batches.seed
        if batches.reader.split != "train":
            return EpochPlan(len(batches), size, shuffle=False)
        if self.batch_classes:
            return BalancedPlan(batches.classes, size, self.batch_classes, seed, epoch)
        if batches.data.extra_shards:
            return MixedPlan(batches.sizes, (1.0, *batches.data.extra_shards.values()), size, seed, epoch)
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
        pin_memory = self.device.type == "cuda"
        try:
            for batch in read_batches(self.batches, requests, workers, self.world_size, pin_memory=pin_memory):
                if isinstance(batch, XmrError):
                    raise batch
                yield self.batches.complete(batch, self.device)
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
        return Request(epoch, self.batches.at(plan.batch(step)[:1]), is_padding=True)


def fit_words(data: Data) -> tuple[Tokenizer, NDArray[np.float32]]:
    """Tokenizer and word vectors (len(tokeniser), dim) from the training split's texts; says how many words of each
    split's texts are unknown to it."""
    reader = open_split(data.shards, "train", data.extra_shards)
    texts = [text for position in range(len(reader)) for text in reader.metadata(position).texts]
    logger.info("fitting words and their vectors to %s texts", f"{len(texts):,}")
    tokenizer, vectors = fit_tokenizer(texts, data.tokens, data.words)
    report_unknown(unknown_fractions(data.shards, tokenizer))
    return tokenizer, vectors


def fit_idf(data: Data, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Inverse document frequency of each token (len(tokeniser),) in the training split: log((1 + n) / (1 + n_t)) + 1
    for n texts, n_t of them with the token. A sample's texts are one text where they are joined."""
    reader = open_split(data.shards, "train", data.extra_shards)
    counts = np.zeros(len(tokenizer), np.int64)
    n = 0
    for position in range(len(reader)):
        texts = reader.metadata(position).texts
        for text in [" ".join(texts)] if data.texts == "concatenate" else texts:
            counts[np.unique(tokenizer.encode(text, max_tokens=data.max_tokens))] += 1
            n += 1
    return (np.log((1 + n) / (1 + counts)) + 1).astype(np.float32)
