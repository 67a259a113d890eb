"""`xmr doctor`: what one wants to know before hours are spent, without a GPU and in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.table import Table
from rich.text import Text

from xmr_e2e.console import Console
from xmr_e2e.doctor.finding import Finding, problem
from xmr_e2e.doctor.libraries import check_libraries

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}
WIDTH = 140
"""where the output is no terminal"""


def examine(recipe: Path | None, options: Sequence[str]) -> int:
    """Look at the machine and at a recipe with its options, show what is found, and return the exit status.

    Under a launcher every rank calls it; rank 0 shows what all of them found, and its status is the launcher's.

    Raises:
        XmrError: the file is no recipe, or an option has no possible value.
        SystemExit: an option that the recipe does not have.
    """
    report = Report()
    libraries = list(check_libraries())
    if any(finding.level == "problem" for finding in libraries):
        report.show("machine", libraries)
        report.show("recipe", [problem("recipe", "not looked at: mend the libraries first")] if recipe else [])
        return report.end()
    # What follows imports them.
    import torch.distributed as dist

    from xmr_e2e.doctor.group import check_local_group, rank_and_world_size
    from xmr_e2e.doctor.machine import check_machine
    from xmr_e2e.doctor.ranks import check_launcher, meet
    from xmr_e2e.doctor.recipe import check_files, check_recipe, load_experiment, planned_processes

    experiment = load_experiment(recipe, options) if recipe else None
    place = rank_and_world_size()
    machine = [*libraries, *check_launcher(place)]
    if place.local_rank == 0:
        machine += check_machine(experiment.train.runs if experiment else Path())
        machine += check_files(experiment) if experiment and place.rank else ()  # rank 0 comes to it in the recipe
    # Meanwhile: it is mostly the time in which another process imports torch.
    alone = ThreadPoolExecutor(1).submit(check_local_group) if place.world_size == 1 else None
    others = [] if alone else meet(place, machine)
    if place.rank:
        # Rank 0 knows of its problems, unless they kept it from telling them. Always 0: a launcher would end rank 0.
        report.show(f"rank {place.rank}", others)
        return 0
    report.show("machine", [*machine, *others])
    if experiment and dist.is_initialized():  # an all-reduce hangs; methods would wait for it
        report.show(experiment.name, [problem("recipe", "not looked at: the processes must reach each other first")])
    elif experiment:
        report.show(experiment.name, check_recipe(experiment, planned_processes(place)))
    if alone:
        report.show("processes", [alone.result()])
    return report.end()


class Report:
    """Prints findings as they come, and counts the problems."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, width=WIDTH)
        self._problems = 0

    def show(self, title: str, findings: Iterable[Finding]) -> None:
        for number, finding in enumerate(findings):
            if number == 0:
                self._console.print(Text(f"\n{title}", style="bold"))
            self._problems += finding.level == "problem"
            row = Table.grid(padding=(0, 2, 0, 0))
            row.add_column(min_width=7)
            row.add_column(min_width=12)
            row.add_column(overflow="fold")
            row.add_row(Text(finding.level, style=STYLES[finding.level]), Text(finding.about), Text(finding.text))
            self._console.print(row)

    def end(self) -> int:
        """The last line; returns the exit status."""
        counted = f"{self._problems} problem{'s' * (self._problems > 1)}" if self._problems else "no problems found"
        self._console.print(f"\n{counted}")
        return int(self._problems > 0)
