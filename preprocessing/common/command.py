"""The common parts of the builders' command lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from xmr_e2e.console import Console, report_errors
from xmr_e2e.shards.info import describe
from xmr_e2e.shards.manifest import Manifest

RawFolder = Annotated[Path, tyro.conf.arg(metavar="RAW")]
OutFolder = Annotated[Path, tyro.conf.arg(metavar="OUT")]


def run(command: Callable[..., None]) -> NoReturn:
    """Make a command line of the function, run it and exit: with 2 after an XmrError or a wrong option.

    The function's name is that of its module or folder, its parameters become the options, its docstring the help.
    """
    prog = f"python -m preprocessing.{command.__name__}"
    sys.exit(report_errors(lambda: tyro.cli(command, prog=prog, config=(tyro.conf.OmitArgPrefixes,))))


def show_built(manifest: Manifest | None, out: Path) -> None:
    """Print what was built: counts, what was skipped, notes. Nothing yet (None) where other parts still build."""
    if manifest is None:
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(describe(manifest))
    console.print(f"shards written to {out}")
