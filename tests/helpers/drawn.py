"""Pictures that tests draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

COLORS = {"apple": (200, 40, 40), "leaf": (40, 170, 60), "sea": (40, 80, 200), "sun": (235, 200, 50)}


def draw_image(
    path: Path,
    *,
    color: tuple[int, int, int] = (120, 120, 120),
    size: tuple[int, int] = (64, 48),
    mode: str = "RGB",
    format: str | None = None,
    seed: int = 0,
    **save_options: Any,
) -> Path:
    """Write a picture: a pale disc, its place chosen by the seed, on a background of this colour; return its path.

    The file's suffix chooses the format where `format` does not; `mode` is one of Pillow's: "L", "RGBA", "CMYK", ….
    """
    image = Image.new("RGB", size, color)
    place = np.random.default_rng(seed).uniform(0.2, 0.8, 2) * size
    radius = min(size) / 5
    ImageDraw.Draw(image).ellipse((*(place - radius), *(place + radius)), fill=(240, 240, 235))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path, format, **save_options)
    return path
