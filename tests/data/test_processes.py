"""Loader processes that stay from epoch to epoch: the same batches, and an end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.processes import keep_processes
from xmr_e2e.errors import XmrError

pytestmark = pytest.mark.slow


def loader_of(shards: Path, split: str = "train", workers: int = 2) -> Loader:
    data = Data(shards, image_size=16, load_size=16, workers=workers)
    return Loader(BatchDataset(data, split, {"image": "pixels"}, None, seed=0), 5)


def pids() -> set[int]:
    return {process.pid or 0 for process in multiprocessing.active_children()}


def assert_same(found: Iterator[Batch], expected: Iterator[Batch]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.inputs["image"], other.inputs["image"])


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = pids()
    yield
    deadline = time.monotonic() + 30
    while pids() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pids() - before


def test_epochs_and_a_validation_have_the_same_processes_and_their_own_batches(tiny_shards: Path) -> None:
    (train, val), (here, val_here) = (
        (loader_of(tiny_shards, workers=count), loader_of(tiny_shards, "val", count)) for count in (2, 0)
    )
    seen = []
    with keep_processes():
        for epoch, first in ((0, 0), (1, 3), (2, 0)):
            assert_same(train.epoch(epoch, first_step=first), here.epoch(epoch, first_step=first))
            seen.append(pids())
            assert_same(val.epoch(), val_here.epoch())
            seen.append(pids())
    assert len(seen[0]) == 2
    assert all(found == seen[0] for found in seen)


def test_an_epoch_that_is_left_off_leaves_nothing_to_the_next(tiny_shards: Path) -> None:
    train, here = loader_of(tiny_shards), loader_of(tiny_shards, workers=0)
    with keep_processes():
        with closing(train.epoch(0)) as begun:
            next(begun)
            processes = pids()
        assert_same(train.epoch(1), here.epoch(1))
        assert pids() == processes


def test_two_epochs_at_a_time_have_processes_of_their_own(tiny_shards: Path) -> None:
    train, here = loader_of(tiny_shards), loader_of(tiny_shards, workers=0)
    with keep_processes():
        begun = train.epoch(0)
        first = next(begun)
        assert_same(train.epoch(1), here.epoch(1))
        assert len(pids()) == 4
        expected = list(here.epoch(0))
        assert first.keys == expected[0].keys
        assert_same(begun, iter(expected[1:]))
        assert_same(train.epoch(2), here.epoch(2))  # with those of one of them; the others end
        assert len(pids()) == 2


def test_processes_that_died_between_two_epochs_are_replaced(tiny_shards: Path) -> None:
    train, here = loader_of(tiny_shards), loader_of(tiny_shards, workers=0)
    with keep_processes():
        list(train.epoch(0))
        killed, *_ = sorted(pids())
        os.kill(killed, signal.SIGKILL)
        while killed in pids():
            time.sleep(0.01)
        assert_same(train.epoch(1), here.epoch(1))
        assert len(pids()) == 2 and killed not in pids()


def test_a_process_that_dies_within_an_epoch_is_an_error_and_the_next_epoch_goes_on(tiny_shards: Path) -> None:
    train, here = loader_of(tiny_shards), loader_of(tiny_shards, workers=0)
    with keep_processes():
        begun = train.epoch(0)
        next(begun)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
        with pytest.raises(XmrError, match=r"A loader process has died, most often because memory or"):
            list(begun)
        del begun
        assert_same(train.epoch(1), here.epoch(1))


def test_outside_of_a_block_processes_end_with_their_epoch(tiny_shards: Path) -> None:
    train = loader_of(tiny_shards)
    list(train.epoch(0))
    assert not pids()
    with keep_processes(), keep_processes():  # the inner one changes nothing
        list(train.epoch(0))
        assert pids()
