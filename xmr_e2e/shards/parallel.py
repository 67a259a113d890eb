"""One function over many shards: in several processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from types import ModuleType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xmr_e2e.cgroups import available_cores
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError

Task = TypeVar("Task")
Result = TypeVar("Result")

CPUS = available_cores()


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
        XmrError: no worker is wanted, one was killed, or none can be started. What `function` raises is passed on.
    """
    if workers < 1:
        raise XmrError(f"--workers must be at least 1, not {workers}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    results = []
    with Progress(TextColumn(title), *columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(title, total=done + sum(sizes), completed=done)
        # Closed at once after Ctrl-C, not when the last reference to it is gone.
        with closing(_run(function, tasks, min(workers, len(tasks)))) as run:
            for result, size in zip(run, sizes):
                results.append(result)
                progress.advance(bar, size)
    return results


def _run(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Generator[Result]:
    if workers <= 1:
        yield from map(function, tasks)
        return
    others = multiprocessing.active_children()
    with _pool(workers) as pool:
        try:
            with without_main(), without_interrupts():
                futures = deque(pool.submit(function, task) for task in tasks)
            while futures:
                yield futures.popleft().result()
        except BrokenProcessPool as error:
            raise XmrError("a worker process was killed, most often for lack of memory; try fewer --workers") from error
        except (KeyboardInterrupt, GeneratorExit):
            for process in set(multiprocessing.active_children()).difference(others):
                process.terminate()  # the pool would wait for the shards that they are at
            raise
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn: the progress display runs a thread, and forking beside a thread can deadlock.
    context = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(workers, context, initializer=end_with_parent)
    except (OSError, ImportError, NotImplementedError) as error:  # of a semaphore
        reason = error.strerror if isinstance(error, OSError) else error
        raise XmrError(
            f"{workers} processes cannot be started: what they share lies in /dev/shm, which cannot be used here "
            f"({reason}); --workers 1 works without it"
        ) from error


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile do not heed Ctrl-C, which a terminal sends to all; who started them ends
    them. Here it counts once they are started: one that is half started would end with a traceback."""
    asked: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()  # where alone handlers are set, and run
    handler = signal.signal(signal.SIGINT, lambda number, _: asked.append(number)) if in_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
    if asked:
        signal.raise_signal(signal.SIGINT)


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
