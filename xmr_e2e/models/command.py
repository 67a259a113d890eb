"""`xmr embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError

LISTED = 20
"""files that were left out"""


def embed_command(
    run: Path,
    files: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILES…")],
    /,
    *,
    out: Path,
    split: Literal["train", "val", "test"] = "test",
    max_skipped: int = 0,
) -> None:
    """Embed pictures, texts, sounds, videos and shapes into a Parquet file with the columns id, modality, text and
    embedding; into arrays of these names (.npz); or into one array of the embeddings alone (.npy), in the order of the
    files.

    Args:
        run: the run folder; an exported model; or one of the Hugging Face hub, USER/MODEL or USER/MODEL@REVISION
        files: pictures, sounds, videos, 3D shapes; .txt files with a text on each line; folders of them, with the
            folders in them; or folders of shards
        out: the file to write, such as embeddings.parquet; .npz or .npy for numpy
        split: of the shards
        max_skipped: files that may be left out because they cannot be read; one more ends it, and nothing is written
    """
    from rich.progress import Progress

    from xmr_e2e.allocation import keep_freed_memory
    from xmr_e2e.console import console as stderr
    from xmr_e2e.models.embedding_files import require_writable, write_embeddings
    from xmr_e2e.models.saved_model import load
    from xmr_e2e.models.sources import Skipped, find_sources
    from xmr_e2e.shards.unused import describe_unused

    if not files:
        raise XmrError("nothing to embed: name pictures or other media, .txt files or folders")
    require_writable(out)
    keep_freed_memory()
    model, skipped = load(run), Skipped(max_skipped)
    sources = find_sources(model, files, split, skipped)
    with Progress(console=stderr) as progress:
        task = progress.add_task("embedding", total=sum(map(len, sources)))
        count = write_embeddings(model, sources, out, skipped, lambda items: progress.advance(task, items))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{count:,} embeddings written: {out}")
    if skipped.unused:
        console.print(describe_unused(skipped.unused))
    if skipped.unknown:
        console.print(
            f"no word of {len(skipped.unknown):,} texts is known to the model, such as {skipped.unknown[0]}: their "
            "embeddings say nothing",
        )
    if skipped.reasons:
        listed = "".join(f"\n  {reason}" for reason in skipped.reasons[:LISTED])
        more = f"\n  … and {len(skipped.reasons) - LISTED} more" if len(skipped.reasons) > LISTED else ""
        console.print(f"{len(skipped.reasons)} files left out:{listed}{more}")
