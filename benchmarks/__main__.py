"""Each performance figure of docs/performance.md, as a command.

    python -m benchmarks transform PHOTOGRAPHS
    python -m benchmarks all PHOTOGRAPHS

PHOTOGRAPHS is a folder of JPEG files. What is measured runs on two cores; a figure is shown, printed as one line of
JSON and kept in build/benchmarks/figures.jsonl.
"""

from __future__ import annotations

import sys

import tyro

from benchmarks import building, peers, performance, reading, retrieval, training
from benchmarks.measure import CORES, Figure, on_cores, record
from xmr_e2e.console import report_errors

COMMANDS = {
    "transform": reading.transform,
    "loader": reading.loader,
    "peers": peers.peers,
    "tar": reading.tar,
    "step": training.step,
    "accelerate": training.accelerate,
    "accumulate": training.accumulate,
    "evaluation": retrieval.evaluation,
    "released": retrieval.released,
    "build": building.build,
    "resized": building.resized,
    "resume": reading.resume,
    "checkpoint": training.checkpoint,
    "regions": building.regions,
    "memory": reading.memory,
    "all": performance.everything,
}


def main() -> None:
    """Measure, show and record one figure."""
    result = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m benchmarks", description=__doc__)
    if isinstance(result, Figure):
        record(result)


if __name__ == "__main__":
    with on_cores(CORES):
        sys.exit(report_errors(main))
