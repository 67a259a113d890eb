"""The processes that load batches beside the training."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.parallel import end_with_parent, without_main

Item = TypeVar("Item")

# Forking the training itself, beside the threads of gloo, TensorBoard and the watch, can leave a child waiting for ever
# for a lock that one of them held. A fork server has no threads, and its children none of the training's memory.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["xmr_e2e.data.loader"])


def default_workers(world_size: int) -> int:
    """The cores that this process may use, shared among the ranks of this machine, at most 8."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return max(1, min(8, len(os.sched_getaffinity(0)) // local))


def worker_options(workers: int | None, world_size: int = 1) -> dict[str, Any]:
    """What torch's DataLoader is told of its processes; without any, it loads in this one. None: as many as fit."""
    if workers is None:
        workers = default_workers(world_size)
    if workers == 0:
        return {}
    return {"num_workers": workers, "multiprocessing_context": _processes, "worker_init_fn": _settle}


def start_loading(loader: DataLoader[Item]) -> Iterator[Item]:
    """The loader's items, with its processes started."""
    if loader.num_workers == 0:
        return iter(loader)
    _start_server()
    with without_main():  # a recipe, with all that it needs, of which loading a batch needs nothing
        return iter(loader)


def lost_worker(error: RuntimeError) -> XmrError:
    """What torch says, wherever the training stands, of a loader's worker that has died."""
    said = str(error).splitlines()[0].rstrip(". ")
    return XmrError(
        f"{said}. A loader process has died, most often because memory or /dev/shm is full: try fewer --data.workers "
        "or a smaller --data.load-size"
    )


def _start_server() -> None:
    """Where none runs yet: with the signals blocked, in it and in all that it forks, which the training handles; Ctrl-C
    reaches every process of the terminal, a cluster's signal every process of the job."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()  # by itself ignores the others, and unblocks them here
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle(worker: int) -> None:
    """A new worker ends when the training ends it, or is gone."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    end_with_parent()
