"""A bar on the console for what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xmr_e2e.console import Console


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for so many items; yields what is called with the number of those that are done since the last call."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn(title), *columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda count: progress.advance(bar, count)
