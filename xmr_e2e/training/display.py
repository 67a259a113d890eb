"""Console display of a running training."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from xmr_e2e.console import console

WIDTH_OF_WORDS = 70
"""of the columns beside the bar, about"""


class Throughput:
    """Samples per second, and the share of the time that was spent waiting for data, over the last steps."""

    MEMORY = 0.9  # weight of the past at each step: about the last ten steps count

    def __init__(self, modalities: Collection[str]) -> None:
        """
        Args:
            modalities: of the samples that are trained on; where there are images among them, they are what is counted.
        """
        self._unit = "img/s" if "image" in modalities else "samples/s"
        self._samples = self._waited = self._seconds = 0.0
        self._mark = time.perf_counter()
        self._data_at = self._mark

    def data_arrived(self) -> None:
        self._data_at = time.perf_counter()

    def step_done(self, samples: int) -> None:
        now = time.perf_counter()
        self._samples = self.MEMORY * self._samples + samples
        self._waited = self.MEMORY * self._waited + self._data_at - self._mark
        self._seconds = self.MEMORY * self._seconds + now - self._mark
        self._mark = now

    @property
    def samples_per_second(self) -> float:
        return self._samples / max(self._seconds, 1e-9)

    @property
    def data_wait(self) -> float:
        return self._waited / max(self._seconds, 1e-9)

    def __str__(self) -> str:
        return f"{self.samples_per_second:.1f} {self._unit}, {self.data_wait:.0%} waiting for data"


class Pace:
    """Estimate of a training's time from that of its steps since this start, with all that lies between them."""

    def __init__(self, first_step: int) -> None:
        self._first = first_step
        self._began = time.perf_counter()

    def left(self, step: int, steps: int) -> str:
        """After a step, to the last of all `steps`: in words for a person."""
        done = max(1, step - self._first)
        seconds = (time.perf_counter() - self._began) / done * (steps - step)
        return f"{timedelta(seconds=round(seconds))} left"


def busy(what: str) -> AbstractContextManager[object]:
    """A spinner on a terminal, while something takes its time and has no steps."""
    return console.status(what)


def training_progress(*, is_main: bool) -> Progress:
    """The bar of an epoch; tasks have the field `status`. On a narrow terminal the words behind it are cut, and on one
    that is narrower still there is no bar."""
    bar = [BarColumn(bar_width=min(30, console.width - WIDTH_OF_WORDS))] if console.width > WIDTH_OF_WORDS + 5 else []
    columns = (TextColumn("{task.description}"), *bar, MofNCompleteColumn(), StatusColumn())
    return Progress(*columns, console=console, disable=not is_main)


class StatusColumn(ProgressColumn):
    """The words of the field `status`, on one line, as far as there is room."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=False))  # the one that gives way

    def render(self, task: Task) -> Text:
        return Text(task.fields["status"], no_wrap=True, overflow="ellipsis")
