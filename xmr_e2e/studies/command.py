"""`xmr table` and `xmr recipes`: comparisons, what is missing of them, and what there is to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.files import write_atomically

if TYPE_CHECKING:
    from xmr_e2e.studies.layout import Format

TABLE_WIDTH = 140
"""columns in which each recipe has one line"""


def table_command(
    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[RUNS…]")] = (Path("runs"),),
    /,
    *,
    format: Literal["markdown", "csv", "latex"] | None = None,
    out: Path | None = None,
    metrics: tuple[str, ...] = (),
    missing: bool = False,
    seeds: int = 5,
    only: tuple[str, ...] = (),
    submit: bool = False,
) -> None:
    """Compare runs: mean and standard deviation over seeds, beside published figures and random rankings.

    Runs that differ in nothing but the seed, their name and the folders are one row. What cannot be compared has a
    footnote that says why. With --missing, which of the recipes have no measured run yet, as commands.

    Args:
        runs: run folders, or folders that hold them
        format: by default as --out is called (.md, .csv, .tex), otherwise Markdown
        out: the file to write, instead of the terminal
        metrics: by default those of the papers, mAP@all, mAP@50 and NDCG@500
        missing: show the runs that are still to do, each recipe as it stands with the seeds 0 to SEEDS - 1; a run with
            other options does not count
        seeds: of each recipe, with --missing
        only: recipes, such as dscmr_wikipedia, with --missing; by default all of recipes/
        submit: with --missing, hand them to Slurm, each recipe as an array of slurm/seeds.sh
    """
    if missing:
        from xmr_e2e.studies.missing import show_missing

        show_missing(runs, seeds=seeds, only=only, submit=submit)
        return
    if submit or only:
        raise XmrError(f"--{'submit' if submit else 'only'} goes with --missing")
    from xmr_e2e.studies.layout import form_of

    text = _table(runs, metrics, form_of(out, format))
    console = Console(highlight=False, soft_wrap=True)
    if out is None:
        console.print(text, end="")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.encode())
    console.print(f"table: {out}")


def _table(runs: tuple[Path, ...], metrics: tuple[str, ...], form: Format) -> str:
    """Runs without an evaluation are named on stderr, and those that never began counted."""
    from xmr_e2e.console import console
    from xmr_e2e.studies.compare import compare
    from xmr_e2e.studies.groups import group_runs
    from xmr_e2e.studies.render import render
    from xmr_e2e.studies.runs import find_runs, has_begun, read_run

    measured = {run: read_run(run) for run in find_runs(runs)}
    failed = [run for run, measurements in measured.items() if not measurements and not has_begun(run)]
    if failed:
        console.print(
            f"{len(failed)} run folders never took a step, and are left out (the first: {failed[0]})",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for run, measurements in measured.items():
        if not measurements and run not in failed:
            console.print(f"{run} has no evaluation, and so is not in the table", highlight=False, soft_wrap=True)
    groups = group_runs(each for measurements in measured.values() for each in measurements)
    return render(compare(groups, metrics), form)


def recipes_command() -> None:
    """List the recipes: method, dataset, and the figures that the paper prints. `xmr recipes` does the same."""
    from xmr_e2e.studies.recipes import recipes_table

    console = Console(highlight=False)
    if not console.is_terminal:  # without a width to ask for, each recipe has its line
        console = Console(highlight=False, width=TABLE_WIDTH)
    console.print(recipes_table())


def copy_command(name: str, out: Path = Path(), /) -> None:
    """Copy a recipe into a folder of yours, to be changed there.

    Args:
        name: such as alscor_pascal
        out: a folder, or a file that does not exist yet (.py); by default here
    """
    from xmr_e2e.studies.recipes import copy_recipe

    target = copy_recipe(name, out)
    Console(highlight=False, soft_wrap=True).print(f"{target}; to train it: {shell('python', target)}")
