"""The `xmr` command.

A command is a function with a docstring: its parameters become the options. What takes long to import is imported
within the function, so that `xmr --help` answers at once. A command returns its exit status; None is 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.extras import SubcommandApp

from xmr_e2e.console import Console, report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.models.command import embed_command, export_command
from xmr_e2e.runs.command import report_command
from xmr_e2e.search.command import index_command, search_command, serve_command
from xmr_e2e.shards.audit.command import audit_command
from xmr_e2e.shards.parallel import CPUS
from xmr_e2e.studies.command import table_command

if TYPE_CHECKING:
    from xmr_e2e.shards.scan import Problem
    from xmr_e2e.shards.sheet import Tile

PROBLEMS_SHOWN = 20
"""of one shard; a shard that was cut can miss thousands of samples"""

app = SubcommandApp()
shards = SubcommandApp()
app.command(shards, name="shards", help="Look at, check and adopt folders of WebDataset shards.")
app.command(name="index")(index_command)
app.command(name="search")(search_command)
shards.command(name="audit")(audit_command)
app.command(name="serve")(serve_command)
app.command(name="embed")(embed_command)
app.command(name="export")(export_command)
app.command(name="table")(table_command)
app.command(name="report")(report_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    `xmr doctor RECIPE OPTIONS` does not reach tyro: the options are the recipe's, which only its own parser knows.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["doctor"] and len(words) > 2 and not words[1].startswith("-"):
        return report_errors(lambda: doctor(Path(words[1]), options=words[2:]))
    return report_errors(
        lambda: app.cli(prog="xmr", description="Cross-modal retrieval: images and texts.", args=words)
    )


@app.command
def eval(
    run: Path,
    /,
    *,
    split: Literal["train", "val", "test"] = "test",
    protocol: str | None = None,
    gallery: Literal["test", "test+train"] = "test",
    shards: Path | None = None,
) -> None:
    """Measure a run's model on a split: a table, evaluation/SPLIT.json and a report, random rankings beside each
    figure. By another protocol or with another gallery: evaluation/SPLIT-PROTOCOL[-with-train].json; on other shards
    than those of the training: evaluation/DATASET-SPLIT.json; each with a report of that name.

    Args:
        run: the run folder
        split: the split to measure
        protocol: clean, coco5k, coco1k, or a released script's: released:dscmr, released:drcl, released:acmr,
            released:semantic_sharing, released:semantic_sharing_coco; by default that of the training
        gallery: what is ranked: the test split, or it and the training split behind it
        shards: where the dataset's shards lie now, if not where they lay in training; or another dataset's
    """
    from xmr_e2e.runs.evaluate import evaluate_run
    from xmr_e2e.runs.run import Run

    evaluate_run(Run(run), split, shards=shards, protocol=protocol, gallery=gallery)


@app.command
def doctor(
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="[RECIPE [OPTIONS]]")] = None,
    /,
    *,
    options: tyro.conf.Suppress[Sequence[str]] = (),
) -> int:
    """Look at this machine, and dry-run a recipe on it, before hours are spent. No GPU is needed; it takes seconds.

    The machine: GPUs, cores, memory, disks, libraries, and whether processes can talk to each other. The recipe: its
    shards and weights, a step of each stage on two samples, and the memory that the training will take. Exits with 1 if
    there are problems. Under a launcher (torchrun -m xmr_e2e.cli doctor RECIPE) all processes take part.

    Args:
        recipe: such as recipes/alscor_pascal.py, and after it the options with which it is going to be trained
    """
    from xmr_e2e.doctor.examine import examine

    return examine(recipe, options)


@shards.command
def info(folder: Path, /) -> None:
    """Show what a folder of shards holds: splits, classes, what was skipped and why.

    Args:
        folder: the folder with manifest.json
    """
    from xmr_e2e.shards.info import describe
    from xmr_e2e.shards.manifest import load_manifest

    Console().print(describe(load_manifest(folder)), highlight=False)


@shards.command
def verify(folder: Path, /, *, workers: int = CPUS) -> int:
    """Check that a folder of shards is whole; exit with 1 and name shard and key where it is not.

    Compares shards, indexes and manifest (sizes, sha256, truncation, members, key order, counts); decodes every image
    and reads all features.

    Args:
        folder: the folder with manifest.json
        workers: processes
    """
    from xmr_e2e.shards.manifest import load_manifest
    from xmr_e2e.shards.remote.mount import load_mount
    from xmr_e2e.shards.verify import verify

    problems = verify(folder, workers=workers)
    console = Console(highlight=False, soft_wrap=True)
    if problems:
        _print_problems(console, problems)
        way_out = "mount them again" if load_mount(folder) else "build them again with --overwrite"
        console.print(f"{len(problems)} problems found in the shards of {folder}; {way_out}")
        return 1
    splits = load_manifest(folder).splits.values()
    console.print(f"{folder} is whole: {sum(len(split.shards) for split in splits)} shards, "
                  f"{sum(split.samples for split in splits):,} samples, every image decodes")  # fmt: skip
    return 0


@shards.command
def sheet(
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


@shards.command
def index(
    tars: tuple[Path, ...],
    /,
    *,
    val: tuple[Path, ...] = (),
    test: tuple[Path, ...] = (),
    dataset: str = "",
    max_skipped: float = 0.01,
    workers: int = CPUS,
) -> None:
    """Adopt WebDataset tars made elsewhere (img2dataset's jpg / txt / json, cls): write index files and a manifest.

    The tars stay as they are, and all lie in one folder. Texts come from .txt or the JSON's caption, text or texts;
    class names from .cls or the JSON's label or labels, numbers or words.

    Args:
        tars: the training split's tars
        val: the validation split's tars
        test: the test split's tars
        dataset: the dataset's name; if empty, the folder's
        max_skipped: samples without a picture or a text, or that cannot be read, are left out; nothing is adopted where
            they are a larger share than this
        workers: processes
    """
    from xmr_e2e.shards.adopt import adopt_shards
    from xmr_e2e.shards.info import describe

    splits = {"train": tars, "val": val, "test": test}
    folder, manifest = adopt_shards(splits, dataset=dataset, max_skipped=max_skipped, workers=workers)
    console = Console(highlight=False, soft_wrap=True)
    console.print(describe(manifest))
    console.print(f"adopted; check the images with: {shell('xmr', 'shards', 'verify', folder)}")


@shards.command
def mount(
    url: str,
    folder: Path,
    /,
    *,
    cache: Path | None = None,
    cache_gb: float = 100,
    allow_pipe: bool = False,
    allow_protocol: str | None = None,
) -> None:
    """Make a folder of shards whose tars stay at a URL, and are fetched when they are needed. Run again, it brings the
    folder up to date.

    Args:
        url: of the folder with manifest.json: https://, s3://, …; or pipe:COMMAND with {} where a file's name goes
        folder: the folder to make; it is then given as any folder of shards
        cache: folder of a node's disk for the tars that were fetched; by default xmr_e2e-USER in its temporary folder
        cache_gb: size of the cache in 10^9 bytes; the tars that were not used for longest make room for others
        allow_pipe: let the command of a pipe: URL run, now and whenever a tar is needed
        allow_protocol: the protocol of the URL where it has to be allowed, such as hf or abfs
    """
    from xmr_e2e.shards.info import describe
    from xmr_e2e.shards.remote.address import hide_secrets
    from xmr_e2e.shards.remote.mount import mount

    if not 0 < cache_gb < float("inf"):
        raise XmrError(f"--cache-gb {cache_gb:g} must be a number above 0")
    allowed = {allow_protocol, "pipe" if allow_pipe else None}
    manifest = mount(url, folder, cache=cache, cache_bytes=round(cache_gb * 1e9), allowed=allowed)
    console = Console(highlight=False, soft_wrap=True)
    console.print(describe(manifest))
    size = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    console.print(f"mounted: {folder}; the tars, {size / 1e6:,.1f} MB, stay at {hide_secrets(url)}")
    if size > cache_gb * 1e9:
        console.print(
            f"--cache-gb {cache_gb:g} does not hold all of them: what is evicted is fetched again in each epoch"
        )


@shards.command
def trust(folder: Path, /) -> None:
    """Allow a mounted folder that somebody else has made: tars are then fetched from its URL, for you. A folder that
    you have mounted yourself needs no such permission.

    Args:
        folder: the folder with remote.json
    """
    from xmr_e2e.shards.remote.address import hide_secrets
    from xmr_e2e.shards.remote.mount import trust_mount

    mounted = trust_mount(folder)
    kept = f", kept in {mounted.cache_folder}" if mounted.cache_folder else ""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"allowed: the tars of {folder} are fetched from {hide_secrets(mounted.url)}{kept}")


def _print_problems(console: Console, problems: Sequence[Problem]) -> None:
    by_shard: dict[str, list[Problem]] = {}
    for problem in problems:
        by_shard.setdefault(problem.shard, []).append(problem)
    for shard, found in by_shard.items():
        for problem in found[:PROBLEMS_SHOWN]:
            console.print(str(problem))
        if len(found) > PROBLEMS_SHOWN:
            console.print(f"{shard}: … and {len(found) - PROBLEMS_SHOWN} more")


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


if __name__ == "__main__":
    sys.exit(main())
