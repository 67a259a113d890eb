"""Each performance figure of docs/performance.md, as a command.

    python -m benchmarks transform PHOTOGRAPHS
    python -m benchmarks all PHOTOGRAPHS

    python -m benchmarks gpu PHOTOGRAPHS
    python -m benchmarks profile PHOTOGRAPHS

PHOTOGRAPHS is a folder of JPEG files. What is measured runs on two cores; a figure is shown, printed as a line of JSON
and kept in build/benchmarks/figures.jsonl. `gpu` and `profile` have all cores and show a table: of what a GPU is
measured by, and of where the time of each method's step goes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext

import tyro

from benchmarks.gpu import gpu
from benchmarks.measure import CORES, Figure, on_cores, record
from benchmarks.performance import FIGURES, everything
from benchmarks.profiling import profile
from xmr_e2e.console import report_errors

COMMANDS: dict[str, Callable[..., object]] = {**FIGURES, "all": everything, "gpu": gpu, "profile": profile}


def main() -> None:
    """Measure, show and record one figure."""
    result: object = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m benchmarks", description=__doc__)
    if isinstance(result, Figure):
        record(result)


if __name__ == "__main__":
    with nullcontext() if sys.argv[1:2] in (["gpu"], ["profile"]) else on_cores(CORES):
        sys.exit(report_errors(main))
