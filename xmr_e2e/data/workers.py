"""The processes that load batches beside the training."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from multiprocessing import forkserver, queues
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from xmr_e2e.cgroups import available_cores
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.parallel import end_with_parent, without_main

Item = TypeVar("Item")
SHARED_MEMORY = Path("/dev/shm")
"""through which the loader's processes hand over their batches"""
PREFETCHED = 2
"""batches that each loader process holds ready (torch's default)"""

# Forking the training itself, beside the threads of gloo, TensorBoard and the watch, can leave a child waiting for ever
# for a lock that one of them held. A fork server has no threads, and its children none of the training's memory.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["xmr_e2e.data.loader"])


def default_workers(world_size: int) -> int:
    """The cores that this process may use, shared among the ranks of this machine, at most 8."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return max(1, min(8, available_cores() // local))


def worker_options(workers: int | None, world_size: int = 1) -> dict[str, Any]:
    """Arguments of torch's DataLoader for its processes; without any, it loads in this one. None: as many as fit."""
    if workers is None:
        workers = default_workers(world_size)
    if workers == 0:
        return {}
    return {"num_workers": workers, "multiprocessing_context": _processes, "worker_init_fn": _settle}


def start_loading(loader: DataLoader[Item]) -> Iterator[Item]:
    """The loader's items, with its processes started."""
    if loader.num_workers == 0:
        return iter(loader)
    check_semaphores()
    start_server()
    with without_main():  # a recipe, with all that it needs, of which loading a batch needs nothing
        return iter(loader)


def start_server() -> None:
    """Start the server that forks loader processes where none runs yet; it imports what they need meanwhile.

    In it, and in all that it forks, the signals are blocked that the training handles: Ctrl-C reaches every process of
    the terminal, a cluster's signal every process of the job.
    """
    with _blocked({signal.SIGUSR1, signal.SIGINT, signal.SIGTERM}):
        forkserver.ensure_running()


def room_for(*shape: int) -> Tensor:
    """A uint8 tensor to be filled: in a loader process, it lies where the training sees it, and is not copied there."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    # As torch's own default_collate has it.
    return torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(math.prod(shape))).view(shape)


def check_semaphores() -> None:
    """Raise XmrError where processes cannot wait for one another, for lack of a /dev/shm that can be written to."""
    try:
        with _blocked({signal.SIGUSR1}):  # the first lock starts multiprocessing's own process that cleans up
            _processes.Lock()
    except OSError as error:
        raise XmrError(
            f"{SHARED_MEMORY} cannot be used ({error.strerror}), and loader processes need it: make it writable (in a "
            "container: --shm-size 8g or --ipc=host), or read without them, with --data.workers 0"
        ) from error


def check_shared_memory(batch: int, workers: int, ranks: int = 1) -> None:
    """Raise XmrError where the batches that loader processes hold ready do not fit into the shared memory.

    Args:
        batch: bytes of one process's part of a batch.
        workers: loader processes of each of the `ranks` processes of this machine.
    """
    check_semaphores()
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = _in_flight(batch, workers) * ranks
    if needed <= free:
        return
    fitting = max((count for count in range(workers) if _in_flight(batch, count) * ranks <= free), default=0)
    raise XmrError(
        f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free, and {workers} loader process(es) for each of {ranks} "
        f"process(es) hold {needed / 1e6:,.0f} MB there: batches of {batch / 1e6:,.1f} MB, {PREFETCHED} ready in each. "
        f"Enlarge it (Docker: --shm-size {_size(needed)} or --ipc=host), or lower --data.workers to {fitting}, "
        "or --data.load-size or --train.batch-size"
    )


def _in_flight(batch: int, workers: int) -> int:
    """Bytes: those ready, and one that the training is looking at; none without loader processes."""
    return batch * (PREFETCHED * workers + 1) if workers else 0


def _size(needed: int) -> str:
    """With as much again for what else is there, as Docker takes it."""
    return f"{-(-2 * needed // 2**30)}g"


def lost_worker(error: Exception) -> XmrError:
    """The error for torch's message, wherever the training stands, that a loader's worker has died."""
    said = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
    free = f" ({shutil.disk_usage(SHARED_MEMORY).free / 1e6:,.0f} MB free)" if SHARED_MEMORY.exists() else ""
    return XmrError(
        f"{said}. A loader process has died, most often because memory or {SHARED_MEMORY}{free} is full: try fewer "
        "--data.workers (0 reads without such processes) or a smaller --data.load-size; in a container, a larger "
        "/dev/shm (Docker: --shm-size 8g)"
    )


@contextmanager
def _blocked(signals: Set[signal.Signals]) -> Iterator[None]:
    """With these signals blocked, also in processes that start meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle(worker: int) -> None:
    """A new worker ends when the training ends it, or is gone, or when it cannot hand over a batch."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    end_with_parent()
    # By itself, the thread that feeds the queue would print a traceback and drop the batch, and the training would wait
    # for it for ever.
    setattr(queues.Queue, "_on_queue_feeder_error", staticmethod(_end_worker))  # noqa: B010


def _end_worker(error: Exception, item: object) -> None:
    sys.stderr.write(f"a loader process cannot hand over a batch: {str(error).splitlines()[0]}\n")
    sys.stderr.flush()
    os._exit(1)
