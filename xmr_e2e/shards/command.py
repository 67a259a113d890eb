"""`xmr shards info`, `index` and `to-parquet`."""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.console import Console
from xmr_e2e.escape import shell
from xmr_e2e.extras import require_extra
from xmr_e2e.shards.parallel import CPUS


def info_command(folder: Path, /) -> None:
    """Show what a folder of shards holds: splits, classes, what was skipped and why.

    Args:
        folder: the folder with manifest.json
    """
    from xmr_e2e.shards.info import describe
    from xmr_e2e.shards.manifest import load_manifest

    Console().print(describe(load_manifest(folder)), highlight=False)


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


def to_parquet_command(shards: Path, out: Path, /) -> None:
    """Write shards as Parquet files that Hugging Face's datasets reads, a file for each shard: key, image (the bytes as
    they are stored), captions, label or labels, and source. Sounds, videos, shapes and features do not come over.

    Example: xmr shards to-parquet data/shards/mine exported

    Args:
        shards: the folder with manifest.json
        out: the folder to write to, which is new or empty
    """
    require_extra("parquet", "xmr shards to-parquet")
    from xmr_e2e.shards.manifest import load_manifest
    from xmr_e2e.shards.parquet import write_parquet

    written = write_parquet(shards, out)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{written.samples:,} samples in {len(written.files)} files written to {out}")
    if left := [name for name in load_manifest(shards).modalities if name not in ("image", "text")]:
        console.print(f"pictures and texts alone are written: not {', '.join(left)}")
    if written.empty:
        console.print(f"{written.empty:,} samples have neither, and are left out")
