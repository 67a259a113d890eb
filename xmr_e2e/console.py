"""The commands' output for a person: messages on stderr, errors without a traceback.

Names, captions and classes in these words are of others: what a terminal would obey in them is written out.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import rich.console
from rich.logging import RichHandler
from rich.segment import Segment

from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.escape import printable


class Console(rich.console.Console):
    """rich's console for plain text: brackets and colons are no markup, which names and captions would have, too, and
    only rich's own control characters reach the terminal."""

    def __init__(self, **options: Any) -> None:
        stream = options.get("file") or (sys.stderr if options.get("stderr") else sys.stdout)
        # A notebook asks what it starts for colors (FORCE_COLOR); each redrawn bar would be a line there.
        still = {} if "force_terminal" in options or stream.isatty() else {"force_interactive": False}
        # Within a notebook, rich warns before each bar if it lacks the package by which they move there.
        if "ipykernel" in sys.modules and find_spec("ipywidgets") is None:
            still["force_jupyter"] = False
        super().__init__(**{"markup": False, "emoji": False, **still, **options})

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


console = Console(stderr=True)
if not console.is_terminal:
    # Piped into a file there is no width to ask for; 80 columns would break most lines.
    console = Console(stderr=True, width=140)


def setup_logging(*, is_main: bool = True) -> None:
    """Messages go to the console, above any progress bar; of several processes, only the main one says more than
    warnings."""
    handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    for package in ("xmr_e2e", "preprocessing"):
        logging.getLogger(package).setLevel(logging.INFO if is_main else logging.WARNING)


def report_errors(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit status: 2 after an XmrError or a file that cannot be read or written,
    which is shown, and 130 after Ctrl-C."""
    # Commands draw into files. A notebook leaves its own backend to what it starts, which may not have it.
    os.environ["MPLBACKEND"] = "agg"
    _write_in_any_encoding()
    setup_logging()
    try:
        return command() or 0
    except XmrError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(describe_os_error(error))
    except UnicodeEncodeError as error:
        return _fail(_describe_unencodable(error))
    except RuntimeError as error:  # of a user that the system does not know, as in some containers
        if "home directory" not in str(error):
            raise
        return _fail("there is no home directory: set HOME to a folder that can be written")
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130


def _write_in_any_encoding() -> None:
    """Let letters that a console's encoding does not have (LC_ALL=C) be written as \\u72d7, as stderr's always are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _describe_unencodable(error: UnicodeEncodeError) -> str:
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":  # of the locale: then names of files come as surrogates, and cannot be given
        return f"{error.object!a}: names of files are {encoding} here; set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
    return f"{error.object!a} is not valid UTF-8; rename it, or save it in that encoding"


def _fail(message: str) -> int:
    console.print(f"error: {message}", style="red", highlight=False, soft_wrap=True)
    return 2
