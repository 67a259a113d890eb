"""One function over many shards: in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xmr_e2e.errors import XmrError

Task = TypeVar("Task")
Result = TypeVar("Result")

CPUS = len(os.sched_getaffinity(0))


def map_shards(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    sizes: Sequence[int],
    title: str,
    done: int = 0,
    workers: int = CPUS,
) -> list[Result]:
    """The results of `function`, in the order of the tasks.

    Args:
        sizes: what the progress bar counts for each task: its samples, or 1.
        done: what the progress bar starts with.

    Raises:
        XmrError: a worker process was killed. What `function` raises is passed on.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    results = []
    with Progress(TextColumn(title), *columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=done + sum(sizes), completed=done)
        for result, size in zip(_run(function, tasks, min(workers, len(tasks))), sizes):
            results.append(result)
            progress.advance(bar, size)
    return results


def _run(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterable[Result]:
    if workers <= 1:
        yield from map(function, tasks)
        return
    # spawn: the progress display runs a thread, and forking beside a thread can deadlock.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
            with without_main():
                results = pool.map(function, tasks)
            yield from results
    except BrokenProcessPool as error:
        raise XmrError("a worker process was killed, most often for lack of memory; try fewer --workers") from error


@contextmanager
def without_main() -> Iterator[None]:
    """Processes that are started meanwhile do not import the main script, which may take seconds and have no guard.

    What they are to do must be in modules.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def end_with_parent() -> None:
    """Workers whose parent was killed would wait for ever, or go on writing beside the run that comes after it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
