"""ONNX files of sounds, videos and shapes: they equal torch, on what is drawn by chance and on files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_e2e
from tests.helpers.five_models import FIVE, make_five
from tests.helpers.onnx_runs import run_onnx, unit
from tests.helpers.raw_media import five_modalities
from xmr_e2e.models import onnx_files
from xmr_e2e.models.given import load_clips, load_shapes, load_sounds
from xmr_e2e.models.onnx_files import TOLERANCE
from xmr_e2e.models.onnx_inputs import onnx_inputs
from xmr_e2e.towers.points import PointNet, RenderedViews
from xmr_e2e.towers.sound import SoundTower
from xmr_e2e.towers.video import MeanOfFrames

pytest_plugins = ["tests.helpers.onnx_runs"]
pytestmark = pytest.mark.usefixtures("kept_registry")

TOWERS = {
    "spectrogram": ("audio", FIVE.audio),
    "square spectrogram": ("audio", SoundTower(mels=32, side=48)),
    "mean of frames": ("video", MeanOfFrames("resnet10_slim", weights="none")),
    "PointNet that aligns": ("shape3d", PointNet(width=32, align=True)),
    "rendered views": ("shape3d", RenderedViews(views=3, side=32)),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return five_modalities(tmp_path_factory.mktemp("onnx"), train=4, test=2)


def inputs_of(model: xmr_e2e.SavedModel, modality: str, raw: Path) -> tuple[list[Path], dict[str, np.ndarray]]:
    """Files, and what the graph takes for them."""
    if modality == "audio":
        files = sorted(raw.glob("*.wav"))
        sounds = load_sounds(files, model.data)
        return files, {"samples": sounds.samples.numpy(), "lengths": sounds.lengths.numpy()}
    if modality == "video":
        files = sorted(raw.glob("*.mp4"))
        return files, {"frames": load_clips(files, model.data).numpy()}
    files = sorted(raw.glob("*.off"))
    return files, {"points": load_shapes(files, model.data).numpy()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOWERS)
def test_each_tower_equals_torch(name: str, shards: Path, tmp_path: Path) -> None:
    modality, tower = TOWERS[name]
    changed: dict[str, Any] = {modality: tower}
    model = make_five(shards, replace(FIVE, **changed))
    (tmp_path / "onnx").mkdir()
    method = onnx_files._for_export(model.method)
    assert onnx_files._save_one(method, onnx_inputs(model, modality), modality, tmp_path / "onnx") < TOLERANCE
    files, inputs = inputs_of(model, modality, shards.parent / "raw")
    found, expected = run_onnx(tmp_path, modality, **inputs), model.embed_files(modality, files)
    assert len(found) == 8 and len(np.unique(expected.round(4), axis=0)) == 8
    np.testing.assert_allclose(unit(found), unit(expected), atol=TOLERANCE)


def test_what_the_graphs_take_is_described(shards: Path) -> None:
    model = make_five(shards)
    described = onnx_files.describe(model, dict.fromkeys(("audio", "video", "shape3d"), 0.0))["models"]
    shapes = {name: {key: part["shape"] for key, part in about["inputs"].items()} for name, about in described.items()}
    assert shapes == {
        "audio": {"samples": ("n", "w", 1600), "lengths": ("n", "w")},
        "video": {"frames": ("n", 3, 3, 40, 40)},
        "shape3d": {"points": ("n", "p", 3)},
    }
    assert "0.2 seconds, mono, 8000 samples per second" in described["audio"]["inputs"]["samples"]["meaning"]
