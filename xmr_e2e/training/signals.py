"""Agreement of the ranks between two steps: to save a checkpoint, to stop, to end with an error."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from xmr_e2e.distributed import numbers_of_ranks
from xmr_e2e.errors import XmrError

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Action(IntEnum):
    """A rank's wish for what happens before the next step; the strongest wish of any rank counts."""

    NOTHING = 0
    CHECKPOINT = 1
    STOP = 2
    FAIL = 3


class Stopped(Exception):
    """The training was asked to stop before its end; a checkpoint is saved."""


class Interrupted(BaseException):
    """A signal came while nothing but a batch was waited for; no Exception, which a decoder may catch."""


class Signals:
    """Collects wishes; `agreed` gives every rank the same answer.

    Ctrl-C, SIGTERM and SIGUSR1 (by which clusters announce the time limit) only set a flag here: the step in progress
    ends, a checkpoint is saved, and the process leaves. A wait for a batch, which may never come, ends at once. A
    second Ctrl-C interrupts at once in any case.
    """

    def __init__(self, checkpoint_minutes: float, checkpoint_steps: int | None) -> None:
        self._seconds = 60 * checkpoint_minutes
        self._steps = checkpoint_steps
        self._last = time.monotonic()
        self._steps_since = 0
        self._stop = False
        self._waiting = False
        self._error: XmrError | None = None
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def synchronize(self) -> Action:
        """Called by every rank before each step, and at the end of an epoch."""
        return Action(max(numbers_of_ranks(self._own_action())))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For a batch: nothing is lost where a signal, now or before, ends it.

        Raises:
            Interrupted: it has.
        """
        try:
            self._waiting = True
            if self._stop:
                raise Interrupted
            yield
        finally:
            self._waiting = False

    def step_done(self) -> None:
        self._steps_since += 1

    def fail(self, error: XmrError) -> None:
        """This rank cannot go on."""
        self._error = error

    def error(self) -> XmrError:
        """The error to raise where the ranks agreed to fail."""
        return self._error or XmrError("stopped: another process met an error, which it names")

    def saved(self) -> None:
        """A checkpoint was saved: wait again."""
        self._last, self._steps_since = time.monotonic(), 0

    def close(self) -> None:
        """Signals act again as before: the training is over."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _own_action(self) -> Action:
        if self._error:
            return Action.FAIL
        if self._stop:
            return Action.STOP
        due = time.monotonic() - self._last > self._seconds or self._steps_since == self._steps
        return Action.CHECKPOINT if due else Action.NOTHING

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._stop = True
        logger.warning("%s: the training stops after this step and saves a checkpoint", signal.Signals(number).name)
        if self._waiting:
            raise Interrupted
