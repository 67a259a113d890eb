"""Regions that a detector finds once: what is in the shards, for which samples, and with which errors."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preprocessing import regions as command
from preprocessing.common.command import run
from preprocessing.regions import add_regions, detect_regions, regions
from xmr_e2e.data.config import Data
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.models.saved_model import load
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.base import TowerConfig
from xmr_e2e.towers.detector import SCORES, Detector, load_detector
from xmr_e2e.towers.regions import FasterRcnn, StoredRegions
from xmr_e2e.towers.text import BiGruWords
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator

pytestmark = pytest.mark.slow

SIZES = [(64, 48), (30, 80), (50, 50)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Random weights, and a smaller side than torchvision's 800 pixels."""
    torch.manual_seed(0)
    detector = load_detector("none", "--weights")
    detector.network.transform.min_size, detector.network.transform.max_size = (32,), 64
    return detector


@pytest.fixture
def shards(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """Three pictures of different shapes, and a text without a picture between them."""
    samples = [
        RawSample(f"p{number}", "train", make_image(tmp_path / f"p{number}.png", size=size, seed=number), ("a text",))
        for number, size in enumerate(SIZES)
    ]
    samples.insert(1, RawSample("t", "train", None, ("no picture",)))
    out = tmp_path / "shards"
    build_shards(out, dataset="d", classes=(), samples=samples, required=(), options=BuildOptions(workers=1))
    return out


def test_each_picture_gets_its_regions_and_a_text_alone_gets_none(shards: Path, detector: Detector) -> None:
    manifest = add_regions(shards, detector, count=5, note="five")
    assert manifest.shapes["regions"] == (5, 1024)
    reader = SplitReader(shards, "train")
    with_image = reader.positions_with(["image"]).tolist()
    assert len(with_image) == 3
    for position in set(range(4)) - set(with_image):
        with pytest.raises(XmrError, match="has no regions"):
            reader.regions(position)
    for position in with_image:
        stored = reader.regions(position)
        image = Image.open(io.BytesIO(reader.read(position).image or b"")).convert("RGB")
        picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        alone = detector.find_in_pictures([picture / 255], 5)
        np.testing.assert_allclose(stored.boxes, alone.boxes[0], atol=1e-4)
        np.testing.assert_allclose(stored.features, detector.describe(alone.pooled)[0], rtol=2e-3, atol=1e-3)
        assert stored.classes.tolist() == alone.classes[0].tolist()
        assert stored.features.dtype == np.float16
        width, height = stored.boxes[:, 2] - stored.boxes[:, 0], stored.boxes[:, 3] - stored.boxes[:, 1]
        np.testing.assert_allclose(stored.boxes[:, 4], width * height, atol=1e-6)


def test_regions_made_in_another_way_are_replaced_only_when_asked(shards: Path, detector: Detector) -> None:
    add_regions(shards, detector, count=2, note="two")
    before = (shards / "manifest.json").read_bytes()
    add_regions(shards, detector, count=2, note="two")
    assert (shards / "manifest.json").read_bytes() == before
    with pytest.raises(XmrError, match=r"already has regions.safetensors \(two\).*--overwrite"):
        add_regions(shards, detector, count=3, note="three")
    manifest = add_regions(shards, detector, count=3, note="three", overwrite=True)
    assert manifest.shapes["regions"] == (3, 1024)


def test_detecting_nothing_gives_nothing(detector: Detector) -> None:
    assert detect_regions(detector, [], 5) == []


def test_the_command_says_how_the_regions_were_made(
    shards: Path,
    detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "load_detector", lambda weights, option: detector)
    weights = shards.parent / "weights.pth"
    weights.write_bytes(b"of whatever kind")
    regions(shards, weights=str(weights), count=4, device="cpu")
    note = load_manifest(shards).extended["regions.safetensors"]
    assert "4 regions of torchvision's fasterrcnn_resnet50_fpn" in note
    assert f"weights {hashlib.sha256(b'of whatever kind').hexdigest()[:16]}" in note  # wherever the file lies
    assert str(shards) in capsys.readouterr().out


def test_what_cannot_be_used_is_refused_by_name(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"--weights .*nothing.pth: neither coco, nor none, nor a file"):
        regions(shards, weights=str(tmp_path / "nothing.pth"))
    with pytest.raises(XmrError, match=r"--device cude"):
        regions(shards, weights="none", device="cude")
    with pytest.raises(XmrError, match="nowhere"):
        regions(tmp_path / "nowhere", weights="none", device="cpu")


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a detector of Visual Genome's 1,600 classes and background; random weights."""
    path = tmp_path_factory.mktemp("detectors") / "genome.pth"
    torch.manual_seed(0)
    torch.save(load_detector("none", "--weights", 1601).network.state_dict(), path)
    return path


@pytest.fixture
def pairs(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """Shards of ten pictures with texts, of two classes."""
    samples = [
        RawSample(
            f"p{n}",
            split,
            make_image(tmp_path / f"p{n}.png", size=(40, 36), seed=n),
            (f"text {n % 2}",),
            (f"c{n % 2}",),
        )
        for n, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 2)
    ]
    out = tmp_path / "pairs"
    build_shards(out, dataset="d", classes=("c0", "c1"), samples=samples, options=BuildOptions(workers=1))
    return out


def train(image: TowerConfig, shards: Path, runs: Path) -> Path:
    text, size = BiGruWords(hidden=8), {"dim": 8, "layers": 1, "heads": 2, "feedforward": 8}
    experiment = Experiment(
        name="tiny",
        data=Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6, min_count=1), workers=0),
        method=SemanticSharing(image=image, text=text, masked=0.5, **size),
        optimizer=Optimizer(lr=1e-3),
        train=Train(epochs=1, batch_size=3, runs=runs, report=False),
    )
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    (run,) = (runs / "tiny").iterdir()
    return run


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"]["object"] for record in records if "loss" in record]


def test_a_detector_of_other_classes_finds_regions_that_a_training_reads(
    pairs: Path, genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(weights: str, option: str) -> Detector:
        detector = load_detector(weights, option)
        detector.network.transform.min_size, detector.network.transform.max_size = (32,), 64
        return detector

    monkeypatch.setattr(command, "load_detector", small)
    regions(pairs, weights=str(genome), count=4, device="cpu")
    manifest = load_manifest(pairs)
    assert "fasterrcnn_resnet50_fpn, 1601 classes, weights" in manifest.extended["regions.safetensors"]
    assert manifest.widths == {"regions": 1024, "objects": 1601}
    reader = SplitReader(pairs, "train")
    assert max(reader.regions(place).classes.max() for place in range(len(reader))) > 91
    run = train(StoredRegions(), pairs, tmp_path / "runs")
    assert any(loss > 0 for loss in losses(run))
    assert load(run).method.context_heads["image"].out_features == 1601  # type: ignore[union-attr]


def test_a_detector_of_other_classes_trains_and_its_model_loads_without_its_file(
    pairs: Path, genome: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "copy.pth"
    weights.symlink_to(genome)
    run = train(FasterRcnn(str(weights), regions=4), pairs, tmp_path / "runs")
    weights.unlink()
    assert any(loss > 0 for loss in losses(run))
    model = load(run)
    assert model.method.context_heads["image"].out_features == 1601  # type: ignore[union-attr]
    found = model.method.towers["image"].detector.network.state_dict()[SCORES]  # type: ignore[union-attr]
    assert torch.equal(found.cpu(), torch.load(genome, weights_only=True)[SCORES])


def test_regions_found_before_other_classes_were_possible_are_of_cocos(shards: Path, detector: Detector) -> None:
    old = "36 regions of torchvision's fasterrcnn_resnet50_fpn, weights coco, shorter side 800"
    assert add_regions(shards, detector, count=2, note=old).widths == {"regions": 1024, "objects": 91}
    assert add_regions(shards, detector, count=2, note="mine", overwrite=True).widths == {"regions": 1024}


def test_help_shows_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["regions", "--help"])
    with pytest.raises(SystemExit, match="0"):
        run(regions)
    assert "python -m preprocessing.regions data/shards/mscoco" in " ".join(capsys.readouterr().out.split())
