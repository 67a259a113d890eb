"""Sounds, clips and shapes from shards into batches: what varies from epoch to epoch, and what never does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.five_models import data_of_five
from tests.helpers.raw_media import RATE, five_modalities
from xmr_e2e.data import batch_dataset
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, Request, sample_bytes
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.media import Videos
from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.shapes import decode_points
from xmr_e2e.data.sounds import decode_sound
from xmr_e2e.data.videos import decode_frames
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import load_manifest

KINDS: dict[str, InputKind] = {"audio": "waveform", "video": "frames", "shape3d": "points"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return five_modalities(tmp_path_factory.mktemp("five"))


def options(shards: Path) -> Data:
    return replace(data_of_five(shards), image_size=16, load_size=20, video=Videos(frames=3, size=16))


def batches(shards: Path, modality: str, *, is_training: bool = False, split: str = "train") -> BatchDataset:
    return BatchDataset(options(shards), split, {modality: KINDS[modality]}, None, seed=3, is_training=is_training)


def load(dataset: BatchDataset, rows: list[int], epoch: int = 0) -> Batch:
    found = dataset[Request(epoch, dataset.at(np.array(rows)))]
    assert isinstance(found, Batch)
    return found


def tensors(batch: Batch) -> list[Tensor]:
    (item,) = batch.inputs.values()
    return [part for part in item if part is not None] if isinstance(item, tuple) else [item]


def raw(dataset: BatchDataset, modality: str, row: int) -> tuple[bytes, str]:
    return dataset.reader.media(int(dataset.at(np.array([row]))[0]), modality)


def test_sounds_are_evenly_spaced_windows_in_evaluation(shards: Path) -> None:
    dataset = batches(shards, "audio")
    samples, lengths = load(dataset, [0, 5]).inputs["audio"][:2]
    assert samples.shape == (2, 3, 1600) and (lengths == 1600).all()
    sound = decode_sound(raw(dataset, "audio", 5)[0], "here", rate=RATE)
    assert len(sound) == 4000
    for window, start in zip(samples[1], (0, 1200, 2400)):
        assert np.array_equal(window.numpy(), sound[start : start + 1600])


def test_clips_are_the_middles_of_segments_in_evaluation(shards: Path) -> None:
    dataset = batches(shards, "video")
    clips = load(dataset, [2, 3]).inputs["video"]
    assert clips.shape == (2, 3, 3, 20, 20) and clips.dtype == torch.uint8
    assert np.array_equal(clips[0].numpy(), decode_frames(raw(dataset, "video", 2)[0], "here", frames=3, size=20))


def test_no_chance_is_drawn_for_clips_in_evaluation(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_dataset, "uniform", lambda *_: pytest.fail("a chance was drawn"))
    load(batches(shards, "video"), [2, 3])


def test_shapes_are_points_in_the_unit_ball(shards: Path) -> None:
    dataset = batches(shards, "shape3d")
    points = load(dataset, [1, 4]).inputs["shape3d"]
    data, extension = raw(dataset, "shape3d", 4)
    assert extension == "off" and points.shape == (2, 64, 3) and float(points.norm(dim=2).max()) <= 1 + 1e-6
    assert np.array_equal(points[1].numpy(), decode_points(data, "here", points=64, extension="off", seed=0))


@pytest.mark.parametrize("modality", KINDS)
def test_what_is_read_varies_by_epoch_and_sample_in_training_alone(shards: Path, modality: str) -> None:
    training, evaluation = batches(shards, modality, is_training=True), batches(shards, modality)
    rows = [0, 1, 2, 3, 4, 5, 6, 7]
    whole = tensors(load(training, rows, epoch=1))
    parts = [tensors(load(training, part, epoch=1)) for part in ([0, 1, 2], [3, 4, 5, 6, 7])]
    for tensor, pieces in zip(whole, zip(*parts)):  # however a batch is divided among ranks
        assert torch.equal(tensor, torch.cat(pieces))
    assert not torch.equal(whole[0], tensors(load(training, rows, epoch=2))[0])
    first, second = (tensors(load(evaluation, rows, epoch=epoch)) for epoch in (1, 2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("modality", KINDS)
def test_augmentation_is_the_same_for_any_part_of_a_batch_and_none_in_evaluation(shards: Path, modality: str) -> None:
    batch = load(batches(shards, modality, is_training=True), [0, 1, 2, 3], epoch=1)
    whole, halves = (
        tensors(batch.augmented()),
        [batch.rows(torch.tensor(rows)).augmented() for rows in ([0, 1], [2, 3])],
    )
    for tensor, pieces in zip(whole, zip(*map(tensors, halves))):
        torch.testing.assert_close(tensor, torch.cat(pieces), rtol=0, atol=1e-6)
    plain = tensors(batch.prepared())
    assert whole[0].shape == plain[0].shape and not torch.equal(whole[0], plain[0])
    again = batch.augmented()
    assert all(map(torch.equal, tensors(again.augmented()), tensors(again)))  # not twice
    if modality != "video":
        assert torch.equal(plain[0], tensors(batch)[0])


@pytest.mark.slow
def test_loader_processes_give_the_same_batches(shards: Path) -> None:
    dataset = batches(shards, "audio", is_training=True)
    own = [tensors(batch) for batch in Loader(dataset, 4).epoch(1)]
    dataset.data = replace(dataset.data, workers=1)
    others = [tensors(batch) for batch in Loader(dataset, 4).epoch(1)]
    assert len(own) == len(others) == 2
    assert all(torch.equal(a, b) for one, other in zip(own, others) for a, b in zip(one, other))


@pytest.mark.parametrize(
    ("modality", "bounds", "message"),
    [
        ("audio", {"max_seconds": 0.1}, "-train[0-9]_wav: .*--data.media.max-seconds"),
        (
            "video",
            {"max_frame_pixels": 100},
            "-train[0-9]_mp4: .*--data.media.max-frame-pixels",
        ),
        ("shape3d", {"max_faces": 4}, "-train[0-9]_off: .*--data.media.max-faces"),
    ],
)
def test_bounds_are_kept_and_named_with_shard_and_key(
    shards: Path, modality: str, bounds: dict[str, Any], message: str
) -> None:
    dataset = batches(shards, modality)
    dataset.data = replace(dataset.data, media=MediaBounds(**bounds))
    found = dataset[Request(0, dataset.at(np.array([0])))]
    assert isinstance(found, XmrError)
    with pytest.raises(XmrError, match=f"train-00000.tar: [0-9a-f]{{16}}{message}"):
        raise found


def test_a_sample_of_features_alone_has_no_file_to_read(shards: Path) -> None:
    dataset = batches(shards, "audio")
    with pytest.raises(XmrError, match="has no video file, only published features; read them with a vector tower"):
        dataset.reader.media(int(dataset.at(np.array([0]))[0]), "video")


def test_the_bytes_of_a_sample(shards: Path) -> None:
    data, manifest = options(shards), load_manifest(shards)
    rest = 4 * 2 + 8
    assert sample_bytes(data, {"audio": "waveform"}, manifest) == 4 * 1600 * 3 + rest
    assert sample_bytes(data, {"video": "frames"}, manifest) == 3 * 3 * 20 * 20 + rest
    assert sample_bytes(data, {"shape3d": "points"}, manifest) == 64 * 12 + rest


def test_a_samples_caption_window_points_and_frames_are_drawn_apart() -> None:
    streams = [batch_dataset.TEXT_STREAM, batch_dataset.SOUND_STREAM, batch_dataset.POINT_STREAM]
    assert len({*streams, batch_dataset.VIDEO_STREAM}) == 4
    assert min(streams) >= 100 and max(streams) < batch_dataset.VIDEO_STREAM  # from which each frame has its own
