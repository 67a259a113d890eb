"""Flickr30k's layout, in miniature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.built import image_bytes, write


def karpathy(split_of: dict[str, str]) -> str:
    images: list[dict[str, Any]] = [
        {"filename": name, "split": split, "sentences": [{"raw": f"Sentence {k} of {name}"} for k in range(3)]}
        for name, split in split_of.items()
    ]
    return json.dumps({"images": images, "dataset": "flickr30k"})


def write_tokens(raw: Path, names: Sequence[str]) -> None:
    lines = [f"{name}#{k}\tToken caption {k} ." for name in names for k in range(2)]
    write(raw / "results_20130124.token", "\n".join(lines))


def flickr30k_raw(raw: Path) -> Path:
    """Six images; the last is in the caption file and not in Karpathy's."""
    names = [f"{i}.jpg" for i in range(6)]
    for name in names:
        write(raw / "flickr30k-images" / name, image_bytes())
    write_tokens(raw, names)
    write(raw / "dataset_flickr30k.json", karpathy(dict(zip(names, ("train", "train", "train", "val", "test")))))
    return raw
