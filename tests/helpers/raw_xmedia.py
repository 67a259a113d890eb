"""XMedia's layout, in miniature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from tests.helpers.built import image_bytes, write

XMEDIA_KEYS = {
    "image": ("I_{}_CNN", "{}ImgCat", 8),
    "text": ("T_{}_BOW", "{}TxtCat", 12),
    "audio": ("A_{}", "{}AudCat", 5),
    "video": ("V_{}_CNN", "{}VidCat", 8),
    "shape3d": ("d3_{}", "{}3dCat", 9),
}
COUNTS = {"tr": {"image": 7, "text": 7, "audio": 4, "video": 6, "shape3d": 3},
          "te": {"image": 6, "text": 6, "audio": 4, "video": 5, "shape3d": 2}}  # fmt: skip


def table(rows: int, width: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32).astype(np.float64)


def xmedia_arrays() -> dict[str, NDArray[Any]]:
    """All keys of the file; images and texts have the same classes, row by row."""
    arrays: dict[str, NDArray[Any]] = {}
    for part, counts in COUNTS.items():
        for seed, (modality, (features, labels, width)) in enumerate(XMEDIA_KEYS.items()):
            arrays[features.format(part)] = table(counts[modality], width, 10 * seed + (part == "te"))
            numbers = 1 + 7 * np.arange(counts[modality]) % 20
            # As column here and as row there; all of MATLAB's numbers are floating point.
            arrays[labels.format(part)] = (
                numbers[:, None].astype(float) if part == "tr" else numbers[None].astype(float)
            )
    return arrays


def xmedia_raw(folder: Path, changes: Mapping[str, Any] | None = None) -> Path:
    arrays = {**xmedia_arrays(), **(changes or {})}
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "XMediaFeatures.mat", {key: value for key, value in arrays.items() if value is not None})
    return folder


def write_lists(
    raw: Path, counts: Mapping[str, int], classes: int, *, base: str = "", text_lists: bool = True
) -> dict[str, tuple[str, str, int]]:
    """Raw images and texts and the lists of them; returns image path -> its part, its text, its class from 1."""
    expected = {}
    for part, count in counts.items():
        images, texts = [], []
        for number in range(count):
            label = 1 + number * 3 % classes
            image, words = f"{label:03d}/{part}_{number}.jpg", f"a paragraph: naïve 猫 {part} {number}"
            write(raw / base / image, image_bytes((number * 7 % 255, 80, label)))
            text = f"{label:03d}/{part}_{number}_words.txt" if text_lists else image.replace(".jpg", ".txt")
            write(raw / text, f"{words}\n")
            images.append(f"{image} {label}")
            texts.append(f"{text}\t{label}")
            expected[image] = (part, words, label)
        write(raw / f"img_{part}_list.txt", "\n".join(images) + "\n")
        if text_lists:
            write(raw / f"txt_{part}_list.txt", "\r\n".join(texts))
    return expected


def cells(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    row = np.empty((1, len(arrays)), object)
    row[0, :] = arrays
    return row


def five_views(changes: Callable[[dict[str, list[NDArray[Any]]]], None] | None = None) -> dict[str, Any]:
    """The file's cell arrays: image, text, audio, 3D shape, video."""
    views: dict[str, list[NDArray[Any]]] = {}
    for place, (key, counts) in enumerate((("train", (6, 6, 4, 3, 5)), ("valid", (2, 2, 1, 1, 1)), ("test", (2,) * 5))):
        views[key] = [table(n, 3 + view, 10 * place + view) for view, n in enumerate(counts)]
        views[f"{key}_labels"] = [np.arange(n)[None] % 200 for n in counts]  # counted from 0
    if changes:
        changes(views)
    return {key: cells(arrays) for key, arrays in views.items()}
