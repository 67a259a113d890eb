"""All figures, and their table in docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    allocation,
    building,
    media,
    peers,
    reading,
    reporting,
    retrieval,
    searching,
    starting,
    threads,
    training,
    validating,
    waiting,
)
from benchmarks.measure import Figure, recorded
from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

FIGURES: dict[str, Callable[..., Figure]] = {
    "transform": reading.transform,
    "loader": reading.loader,
    "peers": peers.peers,
    "tar": reading.tar,
    "sounds": media.sounds,
    "clips": media.clips,
    "kept": allocation.kept,
    "step": training.step,
    "accelerate": training.accelerate,
    "micro_batches": training.micro_batches,
    "syncs": waiting.syncs,
    "threads": threads.threads,
    "threads_busy": threads.threads_busy,
    "evaluation": retrieval.evaluation,
    "released": retrieval.released,
    "evals": reporting.evals,
    "validation": validating.validation,
    "build": building.build,
    "resized": building.resized,
    "resume": reading.resume,
    "checkpoint": training.checkpoint,
    "regions": building.regions,
    "memory": reading.memory,
    "start": starting.start,
    "first_step": starting.first_step,
    "index": searching.index,
}
WITHOUT_PHOTOGRAPHS = ("sounds", "kept", "syncs", "evaluation", "released", "start", "index")
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def everything(photographs: Path, /, *, out: Path = Path("docs/performance.md"), measure: bool = True) -> None:
    """Measure all figures, each in a process of its own, and write their table into a document.

    Args:
        photographs: a folder of JPEG files
        out: the document, which has the marks between which the table stands
        measure: with --no-measure, write the table of what was measured before
    """
    if not out.exists() or BEGIN not in out.read_text() or END not in out.read_text():
        raise XmrError(f"{out} must have the lines {BEGIN} and {END}, between which the table is written")
    for name in FIGURES if measure else ():
        given = [] if name in WITHOUT_PHOTOGRAPHS else [str(photographs)]
        done = subprocess.run([sys.executable, "-m", "benchmarks", name, *given])
        if done.returncode:
            raise XmrError(f"{name} ended with status {done.returncode}; what was measured before it is kept")
    metrics = {figure.name: figure for figure in recorded()}
    before, rest = out.read_text().split(BEGIN)
    table = "\n".join(_rows([metrics[name] for name in FIGURES if name in metrics]))
    write_atomically(out, f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}".encode())
    console.print(f"table: {out}")


def _rows(metrics: Sequence[Figure]) -> list[str]:
    """In Markdown: a table for each machine that figures were measured on."""
    lines = []
    for machine in dict.fromkeys(figure.machine for figure in metrics):
        lines += ["", f"On {machine}:", "", "| name | ratio | must be | measured | against | each ratio |"]
        lines.append("|---|---|---|---|---|---|")
        for figure in metrics:
            if figure.machine == machine:
                each = " ".join(f"{ratio:.3g}" for ratio in figure.ratios)
                verdict = figure.goal if figure.is_met else f"{figure.goal}: **not reached**"
                columns = (figure.name, f"{figure.ratio:.3g}", verdict, figure.numerator, figure.denominator, each)
                lines.append(f"| {' | '.join(columns)} |")
    remarks = [f"- {figure.name}: {note}" for figure in metrics for note in figure.notes]
    return [*lines, "", *remarks, ""]
