"""Loader processes that stay from epoch to epoch: those of the training's batches also read the validation's."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from xmr_e2e.data.batch import Batch
from xmr_e2e.data.batch_dataset import BatchDataset, Request
from xmr_e2e.data.workers import start_loading, start_server, worker_options
from xmr_e2e.errors import XmrError


class _Asked(NamedTuple):
    """A request of a loader process, with the samples that it is about where the process does not have them yet."""

    reading: int
    """the number of the epoch or validation, among all that its processes read"""
    batches: bytes | None
    """pickled"""
    request: Request


class _Reading(Dataset[Batch | XmrError]):
    """In a loader process: the samples that are read at present."""

    def __init__(self) -> None:
        self._number = -1
        self._batches: BatchDataset | None = None

    def __getitem__(self, asked: _Asked) -> Batch | XmrError:
        if asked.batches is not None:
            self._number, self._batches = asked.reading, pickle.loads(asked.batches)
        assert self._batches is not None and self._number == asked.reading, "a request of samples that are not here"
        return self._batches[asked.request]


class _Requests:
    """An iterable of requests in the shape that DataLoader calls a sampler."""

    def __init__(self) -> None:
        self.next: Iterable[Request | _Asked] = ()

    def __iter__(self) -> Iterator[Request | _Asked]:
        return iter(self.next)


class _Processes:
    """Some loader processes, which read one epoch after the other."""

    def __init__(self, count: int, *, pin_memory: bool) -> None:
        self.kind = count, pin_memory
        self._requests, self._readings = _Requests(), 0
        self._started: set[multiprocessing.process.BaseProcess] = set()
        self._loader: DataLoader[Batch | XmrError] = DataLoader(
            _Reading(), sampler=self._requests, persistent_workers=True, **_options(pin_memory), **worker_options(count)
        )

    @property
    def are_alive(self) -> bool:
        return all(process.is_alive() for process in self._started)

    def read(self, batches: BatchDataset, requests: Iterable[Request]) -> Iterator[Batch | XmrError]:
        """The batches that are asked for; what was on its way when the one before was left off is dropped."""
        count, number, content = self.kind[0], self._readings, pickle.dumps(batches)
        # The loader asks one process after the other, and begins each time with the first.
        self._requests.next = (
            _Asked(number, content if place < count else None, request) for place, request in enumerate(requests)
        )
        self._readings += 1
        others = set(multiprocessing.active_children())
        reading = start_loading(self._loader)
        self._started |= set(multiprocessing.active_children()) - others
        return reading


_kept: list[_Processes] | None = None
"""those that have nothing to do at present; None where they end with what they have read"""


@contextmanager
def keep_processes(*, starts_now: bool = False) -> Iterator[None]:
    """Let loader processes that read an epoch meanwhile stay for the next one, or for a validation, until the block's
    end. Within another such block, they stay until the end of that.

    starts_now: the server that forks them begins at once, beside what else is done before the first batch is needed.
    """
    global _kept
    if _kept is not None:
        yield
        return
    _kept = []
    if starts_now:
        start_server()
    try:
        yield
    finally:
        _kept = None


def read_batches(
    batches: BatchDataset, requests: Iterable[Request], workers: int | None, world_size: int = 1, *, pin_memory: bool
) -> Iterator[Batch | XmrError]:
    """The batches that are asked for, in this order, or the error in a batch's data.

    Args:
        workers: processes that read them; 0 reads in this one; None: as many as fit.
        world_size: ranks of the training, among which the cores are shared.
        pin_memory: batches lie where a GPU can fetch them without help.

    Raises:
        RuntimeError: of torch, where a process is lost.
    """
    count = worker_options(workers, world_size).get("num_workers", 0)
    if not count:
        here = _Requests()
        here.next = requests
        yield from DataLoader(batches, sampler=here, **_options(pin_memory))
        return
    processes, is_sound = _take(count, pin_memory=pin_memory), False
    try:
        for batch in processes.read(batches, requests):
            is_sound = True
            yield batch
            is_sound = False
        is_sound = True
    finally:
        # Those that an error or a signal broke off while they were asked may be anywhere; they end with the last
        # reference to them.
        if is_sound and _kept is not None:
            _kept.append(processes)


def _take(count: int, *, pin_memory: bool) -> _Processes:
    """Processes that have nothing to do, or new ones. Others that have not are ended: they would take memory."""
    idle = _kept or []
    found = [each for each in idle if each.kind == (count, pin_memory) and each.are_alive]
    idle.clear()
    return found[-1] if found else _Processes(count, pin_memory=pin_memory)


def _options(pin_memory: bool) -> dict[str, Any]:
    """Of torch's DataLoader, wherever batches are read."""
    return {
        "batch_size": None,  # a request is one of a batch
        "pin_memory": pin_memory,
        # Its own generator: the loader must not draw from the training's random numbers.
        "generator": torch.Generator(),
    }
