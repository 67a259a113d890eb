"""Check at a glance that a dataset's shards are there and can be read; `xmr shards verify` looks at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.data.vector_files import read_head
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.doctor.finding import Finding, in_words, problem
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.index import index_path
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.shards.remote.mount import load_mount

SHOWN = 3
"""missing shards that are named"""


def check_shards(folder: Path) -> Finding:
    """Check that all files are there, in the size that the manifest says; the tars of a mounted dataset need not be."""
    try:
        manifest, mounted = load_manifest(folder), load_mount(folder) is not None
    except XmrError as error:
        return problem("shards", str(error))
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    wrong = [complaint for shard in shards for complaint in _complaints(folder / shard.name, shard.bytes, mounted)]
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return problem("shards", f"{folder}: {', '.join(wrong[:SHOWN])}{more}; copy or build these shards again")
    sizes = ", ".join(f"{name} {split.samples:,} samples" for name, split in manifest.splits.items())
    files = f"{len(shards)} shards, {in_words(sum(shard.bytes for shard in shards))}{', mounted' if mounted else ''}"
    labels = "several labels" if manifest.multi_label else "one label"
    classes = f"{len(manifest.classes)} classes, {labels} per sample" if manifest.classes else "no labels"
    return Finding("shards", f"{manifest.dataset}: {sizes}; {classes}; {files}")


def _complaints(tar: Path, size: int, mounted: bool) -> Iterator[str]:
    if not tar.exists():
        if not mounted:
            yield f"{tar.name} is missing"
    elif tar.stat().st_size != size:
        yield f"{tar.name} has {tar.stat().st_size:,} bytes instead of {size:,}"
    if not index_path(tar).exists():
        yield f"{index_path(tar).name} is missing"


def check_samples(experiment: Experiment, manifest: Manifest, tokenizer: Tokenizer | None) -> Finding:
    """The first and the last sample of each split, read and decoded as the training does.

    Raises:
        XmrError: one cannot be read or decoded; names shard and key.
    """
    for split in manifest.splits:
        for modality, source in experiment.method.input_kinds.items():
            batches = BatchDataset(experiment.data, split, {modality: source}, tokenizer, seed=0)
            batch = batches[Request(0, batches.at(np.array([0, len(batches) - 1])))]
            if isinstance(batch, XmrError):
                raise batch
    return Finding("samples", f"the first and the last of {', '.join(manifest.splits)} can be read and decoded")


def check_word_file(words: WordVectors) -> Iterator[Finding]:
    """The head of a file of pretrained word vectors; to read all of one takes a minute."""
    if words.file is None:
        return
    try:
        count, dim, is_binary = read_head(words.file)
    except XmrError as error:
        yield problem("words", str(error))
        return
    if dim != words.dim:
        yield problem("words", f"{words.file} holds {dim}-d vectors: set --data.words.dim {dim}")
    else:
        counted = "vectors" if count is None else f"{count:,} vectors"
        yield Finding("words", f"{words.file}: {counted} of {dim} numbers, {'binary' if is_binary else 'text'}")
