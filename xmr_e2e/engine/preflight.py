"""What is looked at before a run folder is made: whether data, options and machine allow this training."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import torch

from xmr_e2e.data.batch import Regions, Tokens
from xmr_e2e.data.loader import Data, sample_bytes
from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.workers import check_shared_memory, default_workers
from xmr_e2e.engine.embed import BATCH
from xmr_e2e.engine.experiment import Experiment
from xmr_e2e.engine.validate import check_splits
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import MethodConfig, without_weights
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.towers.base import Dataset

logger = logging.getLogger(__name__)

SLOW_PRECISION = (
    "--train.precision fp16 on a CPU takes several times as long as fp32, which it has no units for: use fp32 or bf16"
)


def check_start(experiment: Experiment, processes: int) -> None:
    """Raise XmrError for what would end the training later on; `processes` are all of the training."""
    manifest = load_manifest(experiment.data.shards)
    check_splits(experiment, manifest)
    check_pieces(experiment, manifest, processes)
    check_loading(experiment, manifest, processes, int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
    if experiment.train.precision == "fp16" and not torch.cuda.is_available():
        logger.warning(SLOW_PRECISION)


def check_loading(experiment: Experiment, manifest: Manifest, processes: int, local: int) -> None:
    """Raise XmrError where the loaders' batches do not fit into the shared memory.

    Args:
        local: the training's processes on this machine.
    """
    data, sources = experiment.data, experiment.method.sources
    workers = default_workers(processes) if data.workers is None else data.workers
    if workers:
        # Training reads all modalities of a batch, embedding one after the other.
        training = sample_bytes(data, sources, manifest) * _part(experiment.train.batch_size, manifest, processes)
        embedding = max(sample_bytes(data, {name: source}, manifest) for name, source in sources.items())
        check_shared_memory(max(training, embedding * _part(BATCH, manifest, processes)), workers, local)


def _part(batch: int, manifest: Manifest, processes: int) -> int:
    """Samples of a process's part of a batch of any split."""
    return -(-min(batch, max(split.samples for split in manifest.splits.values())) // processes)


def check_pieces(experiment: Experiment, manifest: Manifest, processes: int) -> None:
    """Raise XmrError where networks with batch normalisation would get one sample alone, which has no variance."""
    train = experiment.train
    smallest = smallest_piece(experiment, processes)
    if smallest > 1:
        return
    # Seldom: so it may take the seconds in which the networks are built.
    config, data = without_weights(experiment.method), experiment.data
    words = torch.randn(10, 0 if data.tokens.kind == "transformers" else data.words.dim)
    method = config.build(Dataset(len(manifest.classes), manifest.multi_label, data.image_size, words, manifest.widths))
    try:
        with torch.no_grad():
            for stage in method.stages:
                if not stage.closed_form:
                    method.represent({name: _one_sample(config, name, data, manifest) for name in stage.modalities})
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise XmrError(
            f"--train.batch-size {train.batch_size} with --train.accumulate {train.accumulate} and {processes} "
            "process(es) leaves pieces of one sample, which networks with batch normalisation cannot train on: lower "
            "--train.accumulate, or raise --train.batch-size"
        ) from error


def smallest_piece(experiment: Experiment, processes: int) -> int:
    """Samples of the smallest piece in which a process sends its part of a batch through the networks."""
    train, data = experiment.train, experiment.data
    reader = open_split(data.shards, "train", data.also)
    counts = [
        len(reader) if reader.has_all([name]) else len(reader.positions_with([name]))
        for name in experiment.method.towers
    ]
    samples = min(count for count in counts if count) if any(counts) else 1
    batch = samples // -(-samples // train.batch_size)
    part = batch // processes
    return max(1, part // min(train.accumulate, max(1, part)))


def _one_sample(config: MethodConfig, modality: str, data: Data, manifest: Manifest) -> Any:
    """A sample's input of the shape that the modality's tower reads."""
    match config.sources[modality]:
        case "pixels":
            return torch.zeros(1, 3, data.image_size, data.image_size)
        case "tokens":
            return Tokens(torch.ones(1, 8, dtype=torch.long), torch.tensor([8]))
        case "vector":
            return torch.zeros(1, manifest.widths[modality])
        case "regions":
            count, width = manifest.shapes["regions"]
            boxes = torch.from_numpy(np.zeros((1, count, 5), np.float32))
            return Regions(torch.zeros(1, count, width), boxes, torch.ones(1, count, dtype=torch.long))
