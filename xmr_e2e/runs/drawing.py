"""The report's place at the end of a measurement: whatever befalls it, the figures are written and shown before."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from types import FrameType

from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.signal_handlers import handled

logger = logging.getLogger(__name__)

LONGEST_REASON = 200
"""in characters, of an error's own words"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class _Stopped(BaseException):
    """A signal came while the report was drawn."""


def draw(path: Path, write: Callable[[], None], *, run: Path, name: str, must_draw: bool) -> None:
    """Write a report of figures that are known already.

    A report that cannot be drawn, or that a signal stops, is a warning that says how to draw it again.

    Args:
        write: writes it to `path`, and imports what draws: a package that is missing there costs no figure.
        run: the run's folder.
        name: of the figures' file in evaluation/, without its suffix.
        must_draw: raise instead; signals act as they did before.

    Raises:
        XmrError: the report cannot be drawn.
    """
    try:
        with _stopping(SIGNALS if not must_draw else ()):
            write()
    except (Exception, _Stopped) as error:
        if must_draw:
            raise as_error(path, error) from error
        again = ["xmr", "report", str(run), *(["--figures", name] if name != "test" else [])]
        logger.warning(
            "%s was not drawn: %s. The figures are whole; to draw it: %s", path, _reason(error), shell(*again)
        )
    else:
        console.print(f"report:  {path}", highlight=False, soft_wrap=True)


@contextmanager
def _stopping(numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """With signals that stop what is done here, and nothing else."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(f"stopped by {signal.Signals(number).name}")

    if threading.current_thread() is not threading.main_thread():  # others cannot receive any
        numbers = ()
    with handled(stop, *numbers):
        yield


def as_error(path: Path, error: BaseException) -> XmrError:
    """The error to raise where a page could not be drawn, and was what had been asked for."""
    return XmrError(f"{path} cannot be drawn: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The error in a line; one that nobody foresaw, with its kind and place."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, XmrError | _Stopped):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    words = shorten(str(error), LONGEST_REASON, placeholder=" …")
    return f"{type(error).__name__}: {words or 'no message'} ({Path(place.filename).name}, line {place.lineno})"
