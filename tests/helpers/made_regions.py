"""Files with regions, as those who computed them wrote them, and shards that they belong to."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.bottom_up.region_tsv import BOTTOM_UP
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards

Array = NDArray[Any]
COUNT, WIDTH, SIDES = 4, 6, (64, 48)  # SIDES: of the tiny shards' pictures


def picture(seed: int, count: int = COUNT) -> dict[str, Array]:
    """A detector's output for one picture: boxes in pixels, features, objects and their scores."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * SIDES
    return {
        "features": rng.normal(size=(count, WIDTH)).astype(np.float32),
        "boxes": corners.reshape(count, 4).astype(np.float32),
        "objects_id": rng.integers(0, 1600, count),
        "objects_conf": rng.permutation(count).astype(np.float32) / count,
    }


def write_tsv(path: Path, pictures: dict[str, dict[str, Array]], columns: tuple[str, ...] = BOTTOM_UP) -> Path:
    """As the scripts that made such files do: csv's DictWriter with tabs."""
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, delimiter="\t")
        for name, arrays in pictures.items():
            row: dict[str, Any] = {key: base64.b64encode(array.tobytes()).decode() for key, array in arrays.items()}
            row |= {key: name for key in ("image_id", "img_id")}
            row |= {"image_w": SIDES[0], "image_h": SIDES[1], "img_w": SIDES[0], "img_h": SIDES[1]}
            row |= {"num_boxes": len(arrays["features"]), "attrs_id": "", "attrs_conf": ""}
            writer.writerow({key: row[key] for key in columns})
    return path


def make_shards(out: Path, sources: list[str], make_image: Callable[..., Path], text: bool = True) -> Path:
    image = make_image(out.parent / "picture.png", size=SIDES)
    samples = [RawSample(source, "train", image, ("a text",)) for source in sources]
    samples += [RawSample("alone", "train", None, ("no picture",))] if text else []
    build_shards(
        out, dataset="d", classes=(), samples=samples, required=(), options=BuildOptions(shard_samples=2, workers=1)
    )
    return out


COCO = {
    "391895": "val2014/COCO_val2014_000000391895.jpg",
    "9": "train2014/COCO_train2014_000000000009.jpg",
    "25": "val2014/COCO_val2014_000000000025.jpg#fold3",
}
PICTURES = {name: picture(seed) for seed, name in enumerate(COCO)}


def box(*corners: float) -> Array:
    return np.tile(np.float32(corners), (COUNT, 1))
