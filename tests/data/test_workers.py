"""Loader processes: how many, and what they may hold in shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from xmr_e2e.data import workers
from xmr_e2e.data.batch_dataset import sample_bytes
from xmr_e2e.data.config import Data
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import Manifest, Split

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("cores", "ranks", "launched", "expected"),
    [(6, 1, None, 6), (16, 1, None, 8), (6, 4, None, 1), (2, 4, None, 1), (6, 9, "3", 2), (1, 1, None, 1)],
)
def test_cores_are_shared_among_the_ranks_of_the_machine(
    cores: int, ranks: int, launched: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if launched:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", launched)
    assert workers.default_workers(ranks) == expected


def test_loading_in_this_process_takes_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert workers.worker_options(0) == {}
    assert workers.worker_options(5)["num_workers"] == 5
    assert workers.worker_options(None)["num_workers"] == 3


@pytest.mark.parametrize(
    ("free", "batch", "count", "ranks", "fitting"),
    [
        (50, 10, 2, 1, None),  # two ready in each of two, and one in use: just as much as there is
        (49, 10, 2, 1, 1),
        (29, 10, 2, 1, 0),
        (99, 10, 2, 2, 1),
        (100, 10, 2, 2, None),
        (0, 10, 0, 1, None),
    ],
)
def test_what_is_held_ready_has_to_fit_into_the_shared_memory(
    free: int, batch: int, count: int, ranks: int, fitting: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free, 0, free))
    if fitting is None:
        workers.check_shared_memory(batch, count, ranks)
        return
    with pytest.raises(XmrError, match=rf"or lower --data\.workers to {fitting}, "):
        workers.check_shared_memory(batch, count, ranks)


def test_the_bytes_of_a_sample() -> None:
    shapes = {"audio": (7,), "regions": (5, 3)}
    manifest = Manifest("tiny", ("a", "b", "c"), False, {"train": Split((), {}, {})}, shapes=shapes)
    data = Data(Path("shards"), image_size=8, load_size=10, max_tokens=5)
    labels_and_position = 4 * 3 + 8
    assert sample_bytes(data, {"image": "pixels", "text": "tokens"}, manifest) == 300 + 8 * 6 + labels_and_position
    assert sample_bytes(data, {"audio": "vector"}, manifest) == 4 * 7 + labels_and_position
    assert sample_bytes(data, {"image": "regions"}, manifest) == 4 * 15 + 28 * 5 + labels_and_position


LOADING = """
import os, signal
from multiprocessing import forkserver, resource_tracker
from torch.utils.data import DataLoader
from xmr_e2e.data.workers import start_loading, worker_options

loading = start_loading(DataLoader(range(100), batch_size=1, **worker_options(1)))
next(loading)
(worker,) = loading._workers
server = forkserver._forkserver._forkserver_pid
others = (server, resource_tracker._resource_tracker._pid)
for pid in (worker.pid, *others):
    for number in (signal.SIGUSR1, signal.SIGINT):
        os.kill(pid, number)
assert sum(1 for _ in loading) == 99, "batches were lost"
again = start_loading(DataLoader(range(100), batch_size=1, **worker_options(1)))
next(again)
assert (forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid) == others, "one was gone"
(worker,) = again._workers
os.kill(worker.pid, signal.SIGTERM)
worker.join(20)
assert not worker.is_alive(), "a worker outlives its end"
print("alive")
os._exit(0)
"""


@pytest.mark.slow
def test_signals_that_the_training_handles_pass_by_its_loader_processes_which_it_can_end() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOADING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")


def test_a_batch_of_a_loader_process_is_made_where_the_training_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not workers.room_for(2, 3).is_shared()
    monkeypatch.setattr(workers, "get_worker_info", object)
    room = workers.room_for(2, 3)
    assert room.is_shared() and room.shape == (2, 3) and room.dtype == torch.uint8 and room.is_contiguous()
