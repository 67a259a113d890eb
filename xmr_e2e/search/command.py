"""`xmr search`: the command around `xmr_e2e.search.query`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from xmr_e2e.search.query import Hit


def search_command(
    run: Path,
    query: str,
    /,
    *,
    split: Literal["train", "val", "test"] = "test",
    k: int = 10,
    sheet: Path | None = None,
    shards: Path | None = None,
) -> None:
    """Search a split with a sentence (finds pictures) or with a picture (finds texts).

    Args:
        run: the run folder with the trained model
        query: a sentence in quotes, or the path of a picture
        split: the split to search in
        k: how many hits
        sheet: contact sheet of the hits to draw, such as hits.png; in the run folder by default
        shards: where the shards lie now, if not where they lay in training
    """
    from xmr_e2e.engine.saved_model import load, require_shards
    from xmr_e2e.search.query import save_sheet, search

    model = load(run, shards=shards)
    require_shards(model)
    hits = search(model, query, split, k)
    console = Console(highlight=False)
    console.print(hits_table(hits, title=f"{query} ({split})"))
    sheet = sheet or run / "search" / _sheet_name(query, split)
    save_sheet(sheet, query, hits)
    console.print(Text(f"contact sheet: {sheet}"), soft_wrap=True)


def hits_table(hits: Sequence[Hit], *, title: str) -> Table:
    """Rank, score, labels, source and first text of each hit."""
    from xmr_e2e.search.query import score_text

    table = Table(title=Text(title), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("labels")
    table.add_column("source", overflow="fold")
    table.add_column("text", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        more = f" (+{len(hit.texts) - 1})" if len(hit.texts) > 1 else ""
        cells = (", ".join(hit.labels), hit.source or hit.key, "".join(hit.texts[:1]) + more)
        # Text: a caption in square brackets is no markup
        table.add_row(str(rank), score_text(hit.score), *map(Text, cells))
    return table


def _sheet_name(query: str, split: str) -> str:
    readable = re.sub(r"\W+", "_", query)[-60:].strip("_")
    return f"{readable or 'query'}-{split}.png"
