"""`xmr shards sheet`, samples of a split drawn side by side, and `xmr shards verify`: they decode all media."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.shards.parallel import CPUS

if TYPE_CHECKING:
    from PIL import Image

    from xmr_e2e.data.reader import SplitReader
    from xmr_e2e.shards.scan import Problem
    from xmr_e2e.shards.sheet import Tile

PROBLEMS_SHOWN = 20
"""of one shard; a shard that was cut can miss thousands of samples"""


def verify_command(folder: Path, /, *, workers: int = CPUS) -> int:
    """Check that a folder of shards is whole; exit with 1 and name shard and key where it is not.

    Compares shards, indexes and manifest (sizes, sha256, truncation, members, key order, counts); decodes every image,
    every sound and 3D shape and three frames of every video, and reads all features.

    Args:
        folder: the folder with manifest.json
        workers: processes
    """
    from functools import partial

    from xmr_e2e.data.media_check import bounds_of_options, check_media
    from xmr_e2e.shards.manifest import load_manifest
    from xmr_e2e.shards.remote.mount import load_mount
    from xmr_e2e.shards.verify import verify

    manifest = load_manifest(folder)
    check = partial(check_media, bounds=bounds_of_options(manifest.options))
    problems = verify(folder, workers=workers, check_media=check)
    console = Console(highlight=False, soft_wrap=True)
    if problems:
        _print_problems(console, problems)
        way_out = "mount them again" if load_mount(folder) else "build them again with --overwrite"
        console.print(f"{len(problems)} problems found in the shards of {folder}; {way_out}")
        return 1
    shards = sum(len(split.shards) for split in manifest.splits.values())
    samples = sum(split.samples for split in manifest.splits.values())
    decoded = _decoded(manifest.modalities)
    console.print(f"{folder} is whole: {shards} shards, {samples:,} samples, every {decoded} decodes")
    return 0


def _decoded(modalities: Sequence[str]) -> str:
    names = {"image": "image", "audio": "sound", "video": "video", "shape3d": "shape"}
    return " and ".join(name for modality, name in names.items() if modality in modalities) or "text"


def _print_problems(console: Console, problems: Sequence[Problem]) -> None:
    by_shard: dict[str, list[Problem]] = {}
    for problem in problems:
        by_shard.setdefault(problem.shard, []).append(problem)
    for shard, found in by_shard.items():
        for problem in found[:PROBLEMS_SHOWN]:
            console.print(str(problem))
        if len(found) > PROBLEMS_SHOWN:
            console.print(f"{shard}: … and {len(found) - PROBLEMS_SHOWN} more")


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
    """Draw a contact sheet of samples, with their labels and texts.

    Of a sample without a picture, the tile shows its video as a film strip, its 3D shape as points, or its sound as
    waveform and spectrogram; where it has none of them, the tile says so.

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


def _draw_samples(folder: Path, split: str, count: int, seed: int) -> list[Tile]:
    """Samples of a split, drawn without replacement, in the order of their positions."""
    import numpy as np

    from xmr_e2e.data.reader import SplitReader
    from xmr_e2e.shards.media import UnusableImage
    from xmr_e2e.shards.sheet import Tile

    reader = SplitReader(folder, split)
    positions = np.random.default_rng(seed).choice(len(reader), min(count, len(reader)), replace=False)
    tiles = []
    for position in sorted(positions.tolist()):
        metadata = reader.metadata(position)
        try:
            image = _picture(reader, position)
        except UnusableImage as error:
            where = reader.where(position)
            raise XmrError(f"{where}: {error}; run `{shell('xmr', 'shards', 'verify', folder)}`") from error
        tiles.append(Tile(image, ", ".join(metadata.labels), "\n".join(metadata.texts)))
    return tiles


def _picture(reader: SplitReader, position: int) -> Image.Image | str:
    """The sample's image, or a picture of its video, its 3D shape or its sound: the first that it has as a file.

    Words where it has none, or where that cannot be decoded. Raises UnusableImage for an image.
    """
    from xmr_e2e.data.media_pictures import draw_media
    from xmr_e2e.shards.sheet import PICTURE, tile_picture

    image = reader.read(position).image
    if image is not None:
        return tile_picture(image)
    for modality in ("video", "shape3d", "audio"):
        if reader.has_media(position, modality):
            data, extension = reader.media(position, modality)
            try:
                return draw_media(modality, extension, data, f".{extension}", size=PICTURE)
            except XmrError as error:
                return str(error)
    modalities = reader.modalities(position)
    if "image" in modalities:
        return "no picture here: published features of one"
    return f"no image; the sample has {', '.join(modalities)}"
