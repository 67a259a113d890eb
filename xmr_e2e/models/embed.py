"""Embeddings of a whole split, each sample exactly once, however many processes share the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xmr_e2e import watchdog
from xmr_e2e.data.batch import CachedFeatures, map_tensors, multi_hot
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.distributed import gather, rank_and_world_size
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.methods.base import Method

BATCH = 128

CachedSplits = Mapping[str, Mapping[str, CachedFeatures]]
"""Split -> modality -> what the frozen tower made of all its samples."""


def embed_split(
    method: Method,
    data: Data,
    tokenizer: Tokenizer | None,
    split: str,
    cached_features: CachedSplits | None = None,
    captions: Captions | None = None,
) -> EmbeddedSplit:
    """Embed all modalities of a split with all ranks, in full precision. Called by every rank.

    Args:
        captions: these texts are items of their own, and a sample's position is there for each; else it has one text.
    """
    data = replace(data, extra_shards={})  # what other folders add to a training is not of this split
    embeddings, positions = {}, {}
    for modality in method.modalities:
        embeddings[modality], positions[modality] = embed_modality(
            method, data, tokenizer, split, modality, cached_features, captions if modality == "text" else None
        )
    reader = SplitReader(data.shards, split)
    everything = range(len(reader))
    labels = multi_hot([reader.labels(position) for position in everything], len(reader.manifest.classes))
    keys = tuple(reader.key(position) for position in everything)
    return EmbeddedSplit(embeddings, positions, labels.to(method.device), keys)


def embed_modality(
    method: Method,
    data: Data,
    tokenizer: Tokenizer | None,
    split: str,
    modality: str,
    cached_features: CachedSplits | None = None,
    captions: Captions | None = None,
) -> tuple[Tensor, Tensor]:
    """Embeddings (n_m, d) of the samples of a split that have this modality, and their positions (n_m,)."""
    sources = {modality: method.input_kinds[modality]}
    known = (cached_features or {}).get(split) if captions is None else None  # of the samples' one text
    batches = BatchDataset(data, split, sources, tokenizer, seed=0, cached_features=known, captions=captions)
    embeddings = collect(method, batches, lambda inputs: method.embed(modality, inputs[modality]).float())
    return embeddings, torch.from_numpy(batches.positions).to(embeddings.device)


@torch.no_grad()
def embed_few(method: Method, data: Data, tokenizer: Tokenizer | None, split: str) -> None:
    """Embed the first and the last sample of a split that have each modality, in this process, for trial.

    Raises:
        XmrError: they cannot be read or decoded.
    """
    was_training = method.training
    method.eval()
    for modality in method.modalities:
        batches = BatchDataset(
            replace(data, extra_shards={}), split, {modality: method.input_kinds[modality]}, tokenizer, seed=0
        )
        batch = batches[Request(0, batches.at(np.unique([0, len(batches) - 1])))]
        if isinstance(batch, XmrError):
            raise batch
        batch = batch.to(method.device)
        method.embed(modality, batch.prepared().inputs[modality])
    method.train(was_training)


def cache_frozen_features(
    method: Method, data: Data, tokenizer: Tokenizer | None, splits: Sequence[str]
) -> dict[str, dict[str, CachedFeatures]]:
    """The frozen towers' outputs for the splits' samples, once and without augmentation. Called by every rank."""
    cached_features: dict[str, dict[str, CachedFeatures]] = {split: {} for split in splits}
    for split in splits:
        for modality in method.frozen:
            batches = BatchDataset(data, split, {modality: method.input_kinds[modality]}, tokenizer, seed=0)
            cached_features[split][modality] = _extract(method, batches, modality)
    return cached_features


def _extract(method: Method, batches: BatchDataset, modality: str) -> CachedFeatures:
    output = collect(method, batches, lambda inputs: method.features(modality, inputs[modality]))
    places, samples = torch.from_numpy(batches.positions), len(batches.reader)
    return CachedFeatures(map_tensors(output, lambda rows: _spread(rows.cpu(), places, samples)))


def _spread(rows: Tensor, places: Tensor, samples: int) -> Tensor:
    """Rows at their places among all samples of the split; zeros for those that lack the modality, never read."""
    if len(rows) == samples:
        return rows
    table = rows.new_zeros(samples, *rows.shape[1:])
    table[places] = rows
    return table


@torch.no_grad()
def collect(method: Method, batches: BatchDataset, function: Callable[[dict[str, Any]], Any]) -> Any:
    """The function's outputs for the items' inputs, as tensors whose rows are in order of position; on every rank.

    The method is in evaluation mode meanwhile.

    Raises:
        RuntimeError: a sample was seen twice or not at all.
    """
    was_training = method.training
    method.eval()
    parts = list(_run_all(method, batches, function))
    method.train(was_training)
    positions, *leaves = (gather(torch.cat(column)) for column in zip(*(_leaves(part) for part in parts)))
    order = positions.argsort(stable=True)  # a sample's captions lie in one batch, in their order
    if not np.array_equal(positions[order].cpu().numpy(), batches.positions):
        raise RuntimeError(
            f"the split {batches.reader.split!r} has {len(order)} items where {len(batches.positions)} were to be "
            "embedded, each once"
        )
    merged = iter(leaves)
    return map_tensors(parts[0][1], lambda _: next(merged)[order])


def _run_all(
    method: Method, batches: BatchDataset, function: Callable[[dict[str, Any]], Any]
) -> Iterator[tuple[Tensor, Any]]:
    device = method.device
    rank, world_size = rank_and_world_size()
    loader = Loader(batches, BATCH, rank, world_size, pin_memory=device.type == "cuda")
    for number, batch in enumerate(loader.epoch(), 1):
        watchdog.report_activity(f"embedding the split {batches.reader.split!r}, batch {number}")
        batch = batch.to(device)
        output = function(batch.prepared().inputs)
        yield batch.positions, map_tensors(output, lambda rows: rows[: len(batch)])  # noqa: B023


def _leaves(structure: Any) -> list[Tensor]:
    leaves: list[Tensor] = []
    map_tensors(structure, lambda tensor: leaves.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return leaves
