"""The checks before a run folder is made: do data, options and machine allow this training?"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from xmr_e2e.configuration import check_restorable
from xmr_e2e.data.batch_dataset import sample_bytes
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind, Regions, Tokens, Waveforms
from xmr_e2e.data.mixture import open_split
from xmr_e2e.data.workers import check_shared_memory, default_workers
from xmr_e2e.devices import uses_gpu
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.methods.base import build_method
from xmr_e2e.models.embed import BATCH
from xmr_e2e.models.rebuild import without_weights
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.training.acceleration import check_compile
from xmr_e2e.training.selection import check_splits

logger = logging.getLogger(__name__)

SLOW_PRECISION = (
    "--train.precision fp16 takes several times as long as fp32 on a CPU, as most compute it in software: use fp32 or "
    "bf16"
)


def check_start(experiment: Experiment, processes: int) -> None:
    """Raise XmrError for what would end the training later on; `processes` are all of the training."""
    check_restorable(experiment)
    check_compile(experiment.train)
    check_trackers(experiment.train)
    manifest = load_manifest(experiment.data.shards)
    check_splits(experiment, manifest)
    check_networks(experiment, manifest, processes)
    check_loading(experiment, manifest, processes, int(os.environ.get("LOCAL_WORLD_SIZE", processes)))


def check_trackers(train: Train) -> None:
    """Raise XmrError for a tracker that is not installed."""
    for name in train.log_with:
        if name != "tensorboard":  # which every installation has
            require_extra(name, f"--train.log-with {name}")


def check_loading(experiment: Experiment, manifest: Manifest, processes: int, local: int) -> None:
    """Raise XmrError where the loaders' batches do not fit into the shared memory.

    Args:
        local: the training's processes on this machine.
    """
    data, sources = experiment.data, experiment.method.input_kinds
    workers = default_workers(processes) if data.workers is None else data.workers
    if workers:
        # Training reads all modalities of a batch, embedding one after the other.
        training = sample_bytes(data, sources, manifest) * _part(experiment.train.batch_size, manifest, processes)
        embedding = max(sample_bytes(data, {name: source}, manifest) for name, source in sources.items())
        check_shared_memory(max(training, embedding * _part(BATCH, manifest, processes)), workers, local)


def _part(batch: int, manifest: Manifest, processes: int) -> int:
    """Samples of a process's part of a batch of any split."""
    return -(-min(batch, max(split.samples for split in manifest.splits.values())) // processes)


def check_networks(experiment: Experiment, manifest: Manifest, processes: int) -> None:
    """Raise XmrError for networks that cannot be trained on pieces so small, or in this precision on a CPU."""
    is_alone = smallest_piece(experiment, processes) == 1
    is_half = experiment.train.precision == "fp16" and not uses_gpu()
    # In all other cases there is nothing to be tried, and the networks need not be built, which may take seconds.
    if is_alone or is_half:
        try:
            _try_networks(experiment, manifest, samples=1 if is_alone else 2, is_half=is_half)
        except ValueError as error:  # of torch's batch normalisation
            if "more than 1 value per channel" not in str(error):
                raise
            raise XmrError(_alone(experiment.train, processes)) from error
        except RuntimeError as error:
            if not is_half:
                raise
            said = str(error).splitlines()[0]
            raise XmrError(
                f"--train.precision fp16: these networks cannot have it on a CPU ({said}); use bf16"
            ) from error
    if is_half:
        logger.warning(SLOW_PRECISION)


def _alone(train: Train, processes: int) -> str:
    budgets = {"--train.micro-pixels": train.micro_pixels, "--train.micro-tokens": train.micro_tokens}
    given = {option: value for option, value in budgets.items() if value}
    pieces = " and ".join(f"{name} {value}" for name, value in given.items())
    return (
        f"--train.batch-size {train.batch_size}, {pieces or f'--train.micro-batches {train.micro_batches}'} and "
        f"{processes} process(es) leave micro-batches of one sample, on which networks with batch normalisation cannot "
        f"train: {'use --train.micro-batches instead' if given else 'lower --train.micro-batches'}, or raise "
        "--train.batch-size"
    )


@torch.no_grad()
def _try_networks(experiment: Experiment, manifest: Manifest, *, samples: int, is_half: bool) -> None:
    """Run each stage's networks as in training, at random weights and on zeros."""
    config, data = without_weights(experiment.method), experiment.data
    words = torch.randn(10, 0 if data.tokens.kind == "transformers" else data.words.dim)
    about = len(manifest.classes), manifest.multi_label, data.image_size, words, manifest.widths
    dataset = DatasetInfo(
        *about,
        published=experiment.method.published,
        idf=torch.ones(len(words)),
        frame_size=data.video.size,
        sound_rate=data.audio.rate,
    )
    method = build_method(config, dataset)
    for stage in method.training_stages:
        if not stage.closed_form:
            inputs = {
                name: _zeros(config.input_kinds[name], name, samples, data, manifest) for name in stage.modalities
            }
            with torch.autocast("cpu", torch.float16, enabled=is_half):
                method.represent_stage(inputs, stage.name)


def smallest_piece(experiment: Experiment, processes: int) -> int:
    """Samples of the smallest piece in which a process sends its part of a batch through the networks."""
    train, data = experiment.train, experiment.data
    reader = open_split(data.shards, "train", data.extra_shards)
    counts = [
        len(reader) if reader.has_all([name]) else len(reader.positions_with([name]))
        for name in experiment.method.towers
    ]
    samples = min(count for count in counts if count) if any(counts) else 1
    batch = samples // -(-samples // train.batch_size)
    part = batch // processes
    if train.micro_tokens and "tokens" in experiment.method.input_kinds.values():
        return 1  # where a text is longer than all others
    count = train.micro_batches
    if train.micro_pixels:
        kinds = experiment.method.input_kinds.values()
        pixels = {"pixels": data.image_size**2, "frames": data.video.frames * data.video.size**2}
        each = sum(pixels.get(kind, 0) for kind in kinds)
        most = max(1, train.micro_pixels // each) if each else part
        count = -(-part // most)
    elif train.micro_tokens:
        count = 1
    return max(1, part // min(max(1, count), max(1, part)))


def _zeros(source: InputKind, modality: str, samples: int, data: Data, manifest: Manifest) -> Any:
    """Inputs of the shape that the modality's tower reads."""
    match source:
        case "pixels":
            return torch.zeros(samples, 3, data.image_size, data.image_size)
        case "tokens":
            return Tokens(torch.ones(samples, 8, dtype=torch.long), torch.full((samples,), 8))
        case "vector":
            return torch.zeros(samples, manifest.widths[modality])
        case "regions":
            count, width = manifest.shapes["regions"]
            classes = torch.ones(samples, count, dtype=torch.long)
            return Regions(torch.zeros(samples, count, width), torch.zeros(samples, count, 5), classes)
        case "waveform":
            windows = torch.zeros(samples, 1, data.audio.samples)
            return Waveforms(windows, torch.full((samples, 1), data.audio.samples))
        case "frames":
            return torch.zeros(samples, data.video.frames, 3, data.video.size, data.video.size)
        case "points":
            return torch.zeros(samples, data.shape3d.points, 3)
