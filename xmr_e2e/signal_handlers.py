"""Signal handlers that are given back afterwards."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 75
"""exit status of what has not finished and is to be started again (EX_TEMPFAIL of sysexits.h)"""


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """With a handler of signals, which act as before afterwards: a process that goes on, a notebook's, has processes of
    its own to end by them."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def leaving_at_once(status: int) -> Iterator[None]:
    """Meanwhile SIGTERM and SIGUSR1 end this process with a status: nothing is left that would have to be saved."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(status)

    with handled(leave, signal.SIGTERM, signal.SIGUSR1):
        yield
