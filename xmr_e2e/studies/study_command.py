"""`xmr study`: many trainings as one table."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xmr_e2e.console import Console, console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line, shell
from xmr_e2e.files import write_atomically
from xmr_e2e.signal_handlers import STOPPED

if TYPE_CHECKING:
    from xmr_e2e.studies.plan import Plan

STATES = {"running": "being trained", "new": "to do"}
"""states of runs in words, where these are others"""


def run_command(
    study: str,
    /,
    *,
    runs: Path = Path("runs"),
    shards: Path | None = None,
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    jobs: int | None = None,
    launcher: str = "",
    submit: bool = False,
    dry_run: bool = False,
) -> int:
    """Train and measure what of a study is missing: each variant with each seed.

    A run that exists, with the same options, seed and data, counts, whoever started it; one that was begun goes on.
    Where a run fails, the others go on, and it is named at the end. The exit status is 0 where all is measured, 1 where
    runs failed, and 75 where it was stopped, or another process has some of the runs.

    Args:
        study: a file, or the name of one that `xmr study list` shows
        runs: the folder of run folders
        shards: the folder in which the folders of shards lie, in place of the recipes' data/shards
        only: variants or recipes by name; by default all
        seeds: in place of the study's own
        jobs: runs at a time, at most, where memory allows; by default one on each GPU, or one. With --submit, tasks of
            Slurm's array at a time
        launcher: what starts a run in the place of python, such as "accelerate launch --num_processes 4"
        submit: hand the runs to Slurm, as arrays of slurm/study.sh
        dry_run: show what is to be done, as commands, and do nothing
    """
    import shlex

    from xmr_e2e.studies.files import load_study, study_file
    from xmr_e2e.studies.local import check_jobs, command_of, report_outcomes, run_locally
    from xmr_e2e.studies.plan import plan_study
    from xmr_e2e.studies.submit import submit_study

    check_jobs(jobs)
    output = Console(highlight=False, soft_wrap=True)
    file = study_file(study)
    plan = plan_study(load_study(file, shards, runs), runs, only=only, seeds=seeds)
    _say_plan(plan)
    words = shlex.split(launcher)
    if dry_run:
        for run in plan.runs:
            if run.is_to_do:
                output.print(one_line(shell(*command_of(run, file, runs, words))))
        return 0
    if submit:
        for line in submit_study(plan, file, jobs):
            output.print(one_line(line))
        return 0
    outcomes, is_complete = run_locally(plan, file, jobs=jobs, launcher=words)
    failed = report_outcomes(outcomes)
    if failed:
        return 1
    is_open = plan.count("running", "no shards") > 0
    if is_complete and not is_open:
        output.print(f"all is measured; the tables: {shell('xmr', 'study', 'show', study)}")
    return 0 if is_complete and not is_open else STOPPED


def show_command(
    study: str,
    /,
    *,
    runs: Path = Path("runs"),
    shards: Path | None = None,
    only: tuple[str, ...] = (),
    metric: str | None = None,
    format: Literal["markdown", "csv", "latex"] | None = None,
    out: Path | None = None,
) -> None:
    """Show what a study's runs have measured: a table for each recipe, mean and deviation over seeds, the best bold and
    the second underlined, each row beside the recipe as it stands.

    With --out PAGE.html a page with error bars, curves of what was swept, convergence, time and memory.

    Args:
        study: a file, or the name of one that `xmr study list` shows
        runs: the folder of run folders
        shards: the folder in which the folders of shards lie, in place of the recipes' data/shards
        only: variants or recipes by name; by default all
        metric: in place of the study's own, such as mAP@50
        format: by default as --out is called (.md, .csv, .tex), otherwise Markdown
        out: the file to write, instead of the terminal; .html for the page
    """
    from xmr_e2e.studies.files import load_study, study_file
    from xmr_e2e.studies.layout import form_of
    from xmr_e2e.studies.plan import plan_study
    from xmr_e2e.studies.results import read_results
    from xmr_e2e.studies.study_table import render_study

    found = load_study(study_file(study), shards, runs)
    plan = plan_study(replace(found, metric=metric or found.metric), runs, only=only)
    if not plan.count("measured"):
        raise XmrError(f"none of the {len(plan.runs)} runs is measured: {shell('xmr', 'study', 'run', study)}")
    result = read_results(plan)
    output = Console(highlight=False, soft_wrap=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    if out is not None and out.suffix == ".html" and format is None:
        from xmr_e2e.runs.drawing import as_error
        from xmr_e2e.studies.study_page import write_study_page

        try:
            write_study_page(out, result)
        except Exception as error:
            raise as_error(out, error) from error
        output.print(f"page: {out}")
        return
    text = render_study(result, form_of(out, format))
    if out is None:
        output.print(text, end="")
        return
    write_atomically(out, text.encode())
    output.print(f"table: {out}")


def list_command() -> None:
    """List the studies that come with the package. `xmr study` does the same."""
    from rich.table import Table

    from xmr_e2e.studies.files import find_studies

    table = Table(box=None, pad_edge=False)
    table.add_column("study", no_wrap=True)
    table.add_column("what it shows")
    for name, path in find_studies().items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        table.add_row(name, text.partition("\n\n")[0].replace("\n", " "))
    Console(highlight=False).print(table)


def copy_command(name: str, out: Path = Path(), /) -> None:
    """Copy a study into a folder of yours, to be changed there.

    Args:
        name: such as drcl_table5
        out: a folder, or a file that does not exist yet (.py); by default here
    """
    from xmr_e2e.studies.files import copy_study

    target = copy_study(name, out)
    Console(highlight=False, soft_wrap=True).print(f"{target}; to run it: {shell('xmr', 'study', 'run', target)}")


def _say_plan(plan: Plan) -> None:
    """The runs of each row by state, and what stands in the way."""
    for row in plan.study.rows:
        states = Counter(run.state for run in plan.of_row(row))
        if states:
            found = ", ".join(f"{count} {STATES.get(state, state)}" for state, count in states.items())
            console.print(one_line(f"{row.key}: {found}"), highlight=False, soft_wrap=True)
    for shards in dict.fromkeys(run.row.experiment.data.shards for run in plan.runs if run.state == "no shards"):
        console.print(one_line(f"no shards in {shards}: build them, or say where they are (--shards)"), highlight=False)
    console.print(
        f"{plan.count('measured')} of {len(plan.runs)} runs are measured, {plan.count('begun', 'new')} are to do",
        highlight=False,
    )
