"""Sounds, clips and 3D shapes as files, made by a test: a class is a pitch, a color or a form."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.raw import RawSample

CLASSES = ("low", "high")
RATE = 8000


def write_sound(path: Path, hertz: float, *, seconds: float = 0.5, seed: int = 0) -> Path:
    """A tone in some noise, 16 bits, mono."""
    random = np.random.default_rng(seed)
    times = np.arange(round(RATE * seconds)) / RATE
    samples = 0.5 * np.sin(2 * np.pi * hertz * times + random.uniform(0, 6)) + random.normal(0, 0.02, len(times))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def write_clip(path: Path, color: tuple[int, int, int], *, frames: int = 6, seed: int = 0) -> Path:
    """A bar of a color that moves over a dark ground, 32 pixels square, ten pictures a second."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 60, 3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = np.tile(ground.astype(np.uint8), (32, 32, 1))
            picture[:, 4 * number : 4 * number + 12] = color
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_shape(path: Path, height: float, *, seed: int = 0) -> Path:
    """A box of a base of 1 x 1, as an OFF mesh: flat or tall."""
    random = np.random.default_rng(seed)
    sides = np.array([1, 1, height]) * random.uniform(0.8, 1.2, 3)
    corners = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)] * sides
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    lines = [*(f"{x} {y} {z}" for x, y, z in corners), *(f"4 {' '.join(map(str, face))}" for face in faces)]
    path.write_text("\n".join(["OFF", f"{len(corners)} {len(faces)} 0", *lines]) + "\n")
    return path


def samples_of_five(folder: Path, counts: dict[str, int]) -> Iterator[RawSample]:
    """Unpaired samples of each modality, half of each class; counts: split -> samples of each modality."""
    for split, count in counts.items():
        for number in range(count):
            which, name, seed = number % 2, f"{split}{number}", hash_of(split, number)
            label = (CLASSES[which],)
            color = ((220, 40, 40), (40, 60, 220))[which]
            texts = (("a low humming note", "a high whistle")[which],)
            yield RawSample(f"{name}.txt", split, texts=texts, labels=label)
            picture = folder / f"{name}.png"
            noise = np.random.default_rng(seed).integers(0, 60, (32, 32, 3))
            Image.fromarray((np.array(color) * 0.7 + noise).astype(np.uint8)).save(picture)
            yield RawSample(picture.name, split, picture, labels=label)
            media = {
                "audio": write_sound(folder / f"{name}.wav", (300, 2000)[which], seed=seed),
                "video": write_clip(folder / f"{name}.mp4", color, seed=seed),
                "shape3d": write_shape(folder / f"{name}.off", (0.3, 3.0)[which], seed=seed),
            }
            for modality, path in media.items():
                yield RawSample(path.name, split, labels=label, media={modality: path})


def hash_of(split: str, number: int) -> int:
    return {"train": 0, "val": 1000, "test": 2000}[split] + number


def five_modalities(folder: Path, *, train: int = 8, test: int = 4) -> Path:
    """Shards of all five from raw files: unpaired, two classes."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    samples = tuple(samples_of_five(raw, {"train": train, "val": test, "test": test}))
    build_shards(
        folder / "shards",
        dataset="five",
        classes=list(CLASSES),
        samples=samples,
        required=(),
        options=BuildOptions(workers=1),
    )
    return folder / "shards"
