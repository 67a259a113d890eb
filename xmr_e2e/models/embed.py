"""Embeddings of a whole split, each sample exactly once, however many processes share the work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmr_e2e import watchdog
from xmr_e2e.data.batch import Batch, multi_hot
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.captions import Captions
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import CachedFeatures, map_tensors
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.processes import keep_processes
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.distributed import gather, on_every_rank, rank_and_world_size
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.embedded import EmbeddedSplit
from xmr_e2e.methods.base import Method
from xmr_e2e.models.feature_store import FIRST, FeatureStore, features_fingerprint, tower_fingerprint
from xmr_e2e.towers.base import TokenFeatures

logger = logging.getLogger(__name__)

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
    with keep_processes():
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
    with _evaluating(method):
        for modality in method.modalities:
            batches = BatchDataset(
                replace(data, extra_shards={}), split, {modality: method.input_kinds[modality]}, tokenizer, seed=0
            )
            batch = _read(batches, batches.at(np.unique([0, len(batches) - 1]))).to(method.device)
            method.embed(modality, batch.prepared().inputs[modality])


@torch.no_grad()
def tower_features(
    method: Method,
    data: Data,
    tokenizer: Tokenizer | None,
    split: str,
    modality: str,
    items: Sequence[int],
    captions: Captions | None = None,
) -> Tensor | None:
    """Tower outputs (m, dim) of some items of a split, by this process alone; None where the tower gives sequences.

    Args:
        items: their rows among those of `embed_modality`.
    """
    data = replace(data, extra_shards={})
    batches = BatchDataset(data, split, {modality: method.input_kinds[modality]}, tokenizer, seed=0, captions=captions)
    samples, counts = np.unique(batches.positions, return_counts=True)
    number = np.repeat(np.arange(len(samples)), counts)[list(items)]
    wanted = np.unique(number)
    parts = []
    with _evaluating(method):
        for start in range(0, len(wanted), BATCH):
            batch = _read(batches, samples[wanted[start : start + BATCH]]).to(method.device)
            output = method.features(modality, batch.prepared().inputs[modality])
            if not isinstance(output, Tensor) or output.dim() != 2:
                return None
            parts.append(output[: len(batch)])
    # A sample's captions lie together, in their order: behind those of the samples that were read before it.
    ends = np.cumsum(counts[wanted])
    first = (ends - counts[wanted])[np.searchsorted(wanted, number)]
    within = np.asarray(items) - (np.cumsum(counts) - counts)[number]
    return torch.cat(parts)[torch.from_numpy(first + within).to(method.device)]


def _read(batches: BatchDataset, positions: NDArray[np.int64]) -> Batch:
    """A batch that this process reads.

    Raises:
        XmrError: a sample cannot be read or decoded.
    """
    batch = batches[Request(0, positions)]
    if isinstance(batch, XmrError):
        raise batch
    return batch


@contextmanager
def _evaluating(method: Method) -> Iterator[None]:
    """The method in evaluation mode meanwhile."""
    was_training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(was_training)


def cache_frozen_features(
    method: Method,
    data: Data,
    tokenizer: Tokenizer | None,
    splits: Sequence[str],
    modalities: Sequence[str] | None = None,
    store: FeatureStore | None = None,
) -> dict[str, dict[str, CachedFeatures]]:
    """The frozen towers' outputs for the splits' samples, once and without augmentation. Called by every rank.

    Where the training takes one of a sample's texts by chance, there is a row for each of them.

    Args:
        modalities: whose towers stand still by now; by default all of the frozen ones.
        store: where they are looked for, and kept.
    """
    cached_features: dict[str, dict[str, CachedFeatures]] = {split: {} for split in splits}
    for modality in method.frozen if modalities is None else modalities:
        kind = method.input_kinds[modality]
        tower = tower_fingerprint(method.tower_configs[modality], method.towers[modality]) if store else ""
        for split in splits:
            each_text = kind == "tokens" and data.texts == "one_caption" and split == "train"
            make = partial(_extract, method, data, tokenizer, split, modality, Captions() if each_text else None)
            reader = open_split(data.shards, split, data.extra_shards if split == "train" else ())
            if store is None:
                cached_features[split][modality] = make()
                continue
            own = features_fingerprint(tower, data, tokenizer, kind, modality, reader, each_text)
            about = f"{modality} tower, split {split} of {reader.manifest.dataset}"
            cached_features[split][modality] = _stored(store, own, len(reader), about, make)
    return cached_features


def _stored(
    store: FeatureStore,
    fingerprint: str,
    samples: int,
    about: str,
    make: Callable[[], CachedFeatures],
) -> CachedFeatures:
    """The features of a fingerprint from the store; or those that are made now, and kept there.

    The main process alone looks whether a file is whole, and writes one; the others, which may not see its disk, have
    what it has or make it with all others.
    """
    began, is_main = time.monotonic(), rank_and_world_size()[0] == 0
    found = store.find(fingerprint, samples) if is_main else None
    if on_every_rank(found is not None or not is_main):
        found = found or store.open(fingerprint, samples)
        if on_every_rank(found is not None):
            assert found is not None
            logger.info(
                "features of the %s: found in %s (%.1f s)", about, store.path(fingerprint), time.monotonic() - began
            )
            return _from_tensors(found)
    made = make()
    tensors, seconds = _to_tensors(made), time.monotonic() - began
    kept = is_main and tensors is not None and store.save(fingerprint, tensors, about)
    where = f"kept in {store.path(fingerprint)}" if kept else "kept in memory"
    logger.info("features of the %s: extracted in %.1f s, %s", about, seconds, where)
    if not on_every_rank(kept or not is_main):
        return made
    mapped = store.open(fingerprint, samples)  # which processes of a machine share, and need no memory for
    return made if mapped is None else _from_tensors(mapped)


def _to_tensors(features: CachedFeatures) -> dict[str, Tensor] | None:
    """By name, as they lie in a file; None for a tower's own kind of output, which a file could not give back."""
    first = {} if features.first is None else {FIRST: features.first}
    if isinstance(features.output, Tensor):
        return {"output": features.output, **first}
    if isinstance(features.output, TokenFeatures):
        named = {name: tensor for name, tensor in features.output._asdict().items() if tensor is not None}
        return {**named, **first}
    return None


def _from_tensors(found: Mapping[str, Tensor]) -> CachedFeatures:
    if "output" in found:
        return CachedFeatures(found["output"], found.get(FIRST))
    output = TokenFeatures(found["features"], found["mask"], found["positions"], found.get("targets"))
    return CachedFeatures(output, found.get(FIRST))


def _extract(
    method: Method, data: Data, tokenizer: Tokenizer | None, split: str, modality: str, captions: Captions | None
) -> CachedFeatures:
    """Of each sample of a split; or, with captions, of each of these."""
    sources = {modality: method.input_kinds[modality]}
    batches = BatchDataset(data, split, sources, tokenizer, seed=0, captions=captions)
    output = collect(method, batches, lambda inputs: method.features(modality, inputs[modality]))
    places, samples = torch.from_numpy(batches.positions), len(batches.reader)
    if captions is None:
        return CachedFeatures(map_tensors(output, lambda rows: _spread(rows.cpu(), places, samples)))
    ends = places.bincount(minlength=samples).cumsum(0)
    return CachedFeatures(map_tensors(output, Tensor.cpu), torch.cat([ends.new_zeros(1), ends]))


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
    with _evaluating(method):
        parts = list(_run_all(method, batches, function))
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
    loader = Loader(batches, BATCH, rank, world_size, device=device)
    for number, batch in enumerate(loader.epoch(), 1):
        watchdog.report_activity(f"embedding the split {batches.reader.split!r}, batch {number}")
        batch = batch.to(device)
        output = function(batch.prepared().inputs)
        yield batch.positions, map_tensors(output, lambda rows: rows[: len(batch)])  # noqa: B023


def _leaves(structure: Any) -> list[Tensor]:
    leaves: list[Tensor] = []
    map_tensors(structure, lambda tensor: leaves.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return leaves
