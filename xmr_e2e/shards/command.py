"""`xmr shards info`, `verify` and `index`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmr_e2e.console import Console
from xmr_e2e.escape import shell

if TYPE_CHECKING:
    from xmr_e2e.shards.scan import Problem
from xmr_e2e.shards.parallel import CPUS

PROBLEMS_SHOWN = 20
"""of one shard; a shard that was cut can miss thousands of samples"""


def info_command(folder: Path, /) -> None:
    """Show what a folder of shards holds: splits, classes, what was skipped and why.

    Args:
        folder: the folder with manifest.json
    """
    from xmr_e2e.shards.info import describe
    from xmr_e2e.shards.manifest import load_manifest

    Console().print(describe(load_manifest(folder)), highlight=False)


def verify_command(folder: Path, /, *, workers: int = CPUS) -> int:
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


def index_command(
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


def _print_problems(console: Console, problems: Sequence[Problem]) -> None:
    by_shard: dict[str, list[Problem]] = {}
    for problem in problems:
        by_shard.setdefault(problem.shard, []).append(problem)
    for shard, found in by_shard.items():
        for problem in found[:PROBLEMS_SHOWN]:
            console.print(str(problem))
        if len(found) > PROBLEMS_SHOWN:
            console.print(f"{shard}: … and {len(found) - PROBLEMS_SHOWN} more")
