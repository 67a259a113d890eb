"""Raw files that tests of builders make, and what a builder has made of them, read without this project's reader."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

UNLABELLED = "no sample has a label: contrastive training and figures by pairs need none, other methods do"
"""The note of a build without any."""


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def image_bytes(color: tuple[int, int, int] = (90, 120, 60), kind: str = "JPEG", mode: str = "RGB") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (12, 8), color).convert(mode).save(data, kind)
    return data.getvalue()


def manifest(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    return document


def samples(out: Path) -> dict[str, dict[str, Any]]:
    """All samples of a built folder by their source."""
    found = {}
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".json"):
                    sample = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    found[sample["source"]] = {**sample, "split": shard.name.split("-")[0]}
    return found
