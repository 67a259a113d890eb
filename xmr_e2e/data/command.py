"""`xmr shards sheet`: samples of a split, drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell

if TYPE_CHECKING:
    from xmr_e2e.shards.sheet import Tile


def sheet_command(
    folder: Path,
    out: Path,
    /,
    *,
    split: Literal["train", "val", "test"] = "train",
    count: int = 24,
    seed: int = 0,
    columns: int = 6,
) -> None:
    """Draw a contact sheet of samples, with their labels and texts; where one has no picture, its tile says so.

    Args:
        folder: the folder with manifest.json
        out: the picture to write, such as sheet.png
        split: the split to draw samples from
        count: how many samples
        seed: another seed draws other samples
        columns: tiles in a row
    """
    from xmr_e2e.shards.sheet import write_sheet

    if count < 1 or columns < 1:
        raise XmrError("--count and --columns must be at least 1")
    if seed < 0:
        raise XmrError(f"--seed must be at least 0, not {seed}")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise XmrError(f"{out}: the name must end in .png, .jpg or .webp")
    tiles = _draw_samples(folder, split, count, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_sheet(out, tiles, columns=columns, heading=f"{folder.resolve().name}, {split}")
    Console().print(f"{len(tiles)} samples drawn: {out}", highlight=False, soft_wrap=True)


def _in_place_of_image(modalities: Sequence[str]) -> str:
    if "image" in modalities:
        return "no picture here: published features of one"
    return f"no image; the sample has {', '.join(modalities)}"


def _draw_samples(folder: Path, split: str, count: int, seed: int) -> list[Tile]:
    """Samples of a split, drawn without replacement, in the order of their positions."""
    import numpy as np

    from xmr_e2e.data.reader import SplitReader
    from xmr_e2e.shards.media import UnusableImage
    from xmr_e2e.shards.sheet import Tile, tile_picture

    reader = SplitReader(folder, split)
    positions = np.random.default_rng(seed).choice(len(reader), min(count, len(reader)), replace=False)
    tiles = []
    for position in sorted(positions.tolist()):
        record = reader.read(position)
        try:
            image = (
                tile_picture(record.image)
                if record.image is not None
                else _in_place_of_image(reader.modalities(position))
            )
        except UnusableImage as error:
            raise XmrError(f"{record.where}: {error}; run `{shell('xmr', 'shards', 'verify', folder)}`") from error
        tiles.append(Tile(image, ", ".join(record.metadata.labels), "\n".join(record.metadata.texts)))
    return tiles
