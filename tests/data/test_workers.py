"""Loader processes: how many, and what they may hold in shared memory."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

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
