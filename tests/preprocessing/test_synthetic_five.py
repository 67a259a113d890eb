"""The synthetic set of five modalities: whole, reproducible, called synthetic, and a class can be told by each."""

from __future__ import annotations

import hashlib
import io
import json
import wave
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from preprocessing.folder.command import folder
from preprocessing.synthetic.five_media import CLASSES, split_of
from preprocessing.synthetic.raw_set import synthetic
from tests.helpers.built import manifest
from tests.helpers.media_bytes import frames_of
from xmr_e2e.data.media_check import check_media
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions
from xmr_e2e.shards.verify import verify

pytestmark = pytest.mark.slow

SIZE = (64, 48)
COUNT = 8


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("five") / "raw"
    synthetic(out, five=True, per_class=COUNT, size=SIZE, workers=1)
    return out


def rows_of(raw: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (raw / "table.jsonl").read_text().splitlines()]


def hashes(raw: Path) -> dict[str, str]:
    files = (path for path in raw.rglob("*") if path.is_file())
    return {str(path.relative_to(raw)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_command_builds_it_and_its_manifest_calls_it_synthetic(raw: Path, tmp_path: Path) -> None:
    folder(raw, tmp_path / "out", build=BuildOptions(workers=1))
    document = manifest(tmp_path / "out")
    assert document["dataset"] == "synthetic (raw layout)" and document["classes"] == [*CLASSES]
    counts = {name: split["modalities"] for name, split in document["splits"].items()}
    assert counts["train"] == dict.fromkeys(("image", "text", "audio", "video", "shape3d"), 4 * 5)
    assert set(counts["val"].values()) == {4} and set(counts["test"].values()) == {8}
    assert document["skipped"] == [] and document["notes"] == []
    assert verify(tmp_path / "out", workers=1, check_media=check_media) == []


def test_rows_have_one_modality_or_where_paired_all(raw: Path, tmp_path: Path) -> None:
    kinds = Counter(next(iter(row.keys() - {"label", "split"})) for row in rows_of(raw))
    assert kinds == dict.fromkeys(("image", "texts", "audio", "video", "shape3d"), COUNT * len(CLASSES))
    assert all(len(row) == 3 for row in rows_of(raw))
    synthetic(tmp_path / "paired", five=True, paired=True, per_class=3, size=SIZE, workers=1)
    paired = rows_of(tmp_path / "paired")
    assert len(paired) == 12 and all(len(row) == 7 for row in paired)
    assert Counter(row["split"] for row in paired) == {"train": 4, "val": 4, "test": 4}
    for row in paired:
        assert {Path(row[name]).stem for name in ("image", "audio", "video", "shape3d")} == {Path(row["image"]).stem}
    with pytest.raises(XmrError, match="--paired is of the set of five modalities: add --five"):
        synthetic(tmp_path / "none", paired=True)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(raw: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        synthetic(tmp_path / name, five=True, per_class=COUNT, size=SIZE, seed=seed, workers=1)
    same, other = hashes(tmp_path / "same"), hashes(tmp_path / "other")
    assert same == hashes(raw)
    assert not {same[name] for name in same if "/" in name} & {other[name] for name in other if "/" in name}


def test_each_class_has_all_splits() -> None:
    for count in (3, 4, 10, 30):
        splits = [split_of(number, count) for number in range(count)]
        assert set(splits) == {"train", "val", "test"} and splits == sorted(splits, key=("train", "val", "test").index)
    assert [split_of(number, 2) for number in range(2)] == ["train", "train"]


# ---- a class can be told by each modality, with features that have nothing to do with how it was made


def spectrum(data: bytes) -> NDArray[np.float64]:
    """Logarithm of the energy in 24 bands, and of its change in time."""
    with wave.open(io.BytesIO(data)) as file:
        kind = {1: np.uint8, 2: np.int16}[file.getsampwidth()]
        samples = np.frombuffer(file.readframes(file.getnframes()), kind).astype(float)
    samples = (samples - samples.mean()) / samples.std()
    windows = samples[: len(samples) // 800 * 800].reshape(-1, 800)
    energy = np.log(
        np.abs(np.fft.rfft(windows * np.hanning(800)))[:, :384].reshape(len(windows), 24, 16).mean(2) + 1e-3
    )
    return np.concatenate([energy.mean(0), energy.std(0)])


def extents(data: bytes) -> NDArray[np.float64]:
    """Of vertices about their mean: distances at ten parts of their order, and heights."""
    lines = data.decode().splitlines()
    count = int(lines[1].split()[0])
    points = np.array([line.split() for line in lines[2 : 2 + count]], float)
    points = (points - points.mean(0)) / np.linalg.norm(points - points.mean(0), axis=1).max()
    parts = np.linspace(0, 1, 10)
    return np.concatenate([np.quantile(np.linalg.norm(points, axis=1), parts), np.quantile(points[:, 2], parts)])


def motion(data: bytes) -> NDArray[np.float64]:
    """Differences of each frame from the middle one by rows and columns, and the middle frame itself."""
    frames = frames_of(data).astype(float).mean(3)[:, ::8, ::8]
    change = np.abs(frames - frames[len(frames) // 2])
    return np.concatenate([change.mean((0, 1)), change.mean((0, 2)), frames[len(frames) // 2].ravel() / 8])


def small(data: bytes) -> NDArray[np.float64]:
    image = Image.open(io.BytesIO(data)).convert("HSV").resize((8, 6))
    return np.asarray(image, float).ravel()


@pytest.mark.parametrize(
    ("modality", "features", "least"),
    [("audio", spectrum, 0.9), ("shape3d", extents, 0.8), ("video", motion, 0.45), ("image", small, 0.4)],
)
def test_a_class_can_be_told(
    modality: str, features: Callable[[bytes], NDArray[np.float64]], least: float, raw: Path
) -> None:
    rows = [row for row in rows_of(raw) if modality in row]
    vectors = np.stack([features((raw / row[modality]).read_bytes()) for row in rows])
    vectors = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-9)
    labels = np.array([row["label"] for row in rows])
    right = 0
    for row in range(len(rows)):  # the nearest mean of the other samples' classes
        others = np.arange(len(rows)) != row
        means = [vectors[others & (labels == name)].mean(0) for name in CLASSES]
        right += CLASSES[int(np.argmin([np.linalg.norm(vectors[row] - mean) for mean in means]))] == labels[row]
    assert right / len(rows) >= least  # chance: 0.25


def test_sentences_name_what_they_are_of(raw: Path) -> None:
    nouns = {"bird": {"bird", "songbird", "finch"}, "boat": {"boat", "sailboat", "yacht"},
             "car": {"car", "sedan", "automobile"}, "train": {"train", "tram"}}  # fmt: skip
    for row in rows_of(raw):
        if "texts" in row:
            words = {word.strip(".,").lower() for text in row["texts"] for word in text.split()}
            assert words & nouns[row["label"]]
            assert not any(words & own for name, own in nouns.items() if name != row["label"])
