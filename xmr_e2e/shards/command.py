"""`xmr shards info` and `index`."""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.console import Console
from xmr_e2e.escape import shell
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
