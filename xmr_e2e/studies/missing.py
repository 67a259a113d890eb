"""The runs that are still to do: each recipe as it stands, with so many seeds."""

from __future__ import annotations

import runpy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmr_e2e.console import Console, console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line, shell, shell_comment
from xmr_e2e.files import read_json
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards import manifest
from xmr_e2e.studies.runs import fits, is_measured, options_of, read_about, runs_below, wanted_options
from xmr_e2e.studies.slurm import queued, ranges, require_slurm, submit_array

RECIPES = Path("recipes")
SCRIPT = Path("slurm/seeds.sh")
DEFAULT_RUNS = Path("runs")


@dataclass(frozen=True)
class MissingRuns:
    """A recipe's runs that are not there."""

    recipe: Path
    seeds: tuple[int, ...]
    begun: Mapping[int, Path]
    """seed -> a run that was begun, and has no evaluation"""
    obstacle: str
    """the reason why it cannot be run now; "" where it can"""
    runs: Path
    """the folder for its runs"""

    def command(self, seed: int, name: str) -> str:
        """That trains and measures; repeated, it goes on with what it began."""
        options = ("--train.seed", str(seed), "--train.name", name, *self.options)
        return shell("accelerate", "launch", self.recipe, *options)

    @property
    def options(self) -> tuple[str, ...]:
        return () if self.runs == DEFAULT_RUNS else ("--train.runs", str(self.runs))


def show_missing(folders: Sequence[Path], *, seeds: int, only: Collection[str], submit: bool) -> None:
    """Print the commands of the runs that are missing, or submit them to Slurm.

    What cannot be run at once is a comment with its reason, so that the commands can be handed to a shell, whatever the
    names of runs are.

    Args:
        folders: where runs are looked for; new ones go to the first
        seeds: of each recipe, from 0
        only: names of recipes; all where there are none
        submit: hand them to Slurm instead

    Raises:
        XmrError: no recipes here, no such recipe, or Slurm cannot be asked.
    """
    if seeds < 1:
        raise XmrError(f"--seeds must be at least 1, not {seeds}")
    todo = list(find_missing(_recipes(only), folders, seeds))
    lines = submit_missing(todo) if submit else _commands(todo)
    output = Console(highlight=False, soft_wrap=True)
    for line in lines:
        output.print(one_line(line))
    wanted = seeds * len(todo)
    missing = sum(len(each.seeds) + len(each.begun) for each in todo)
    console.print(f"{wanted - missing} of {wanted} runs are measured, {missing} are missing", highlight=False)


def _recipes(only: Collection[str]) -> list[Path]:
    recipes = {path.stem: path for path in sorted(RECIPES.glob("[!_]*.py"))}
    if not recipes:
        raise XmrError(
            "there is no folder recipes/ with recipes here: go to the project's root, or put some there: "
            "xmr recipes copy NAME recipes"
        )
    for name in only:
        if name not in recipes:
            raise XmrError(f"--only {name}: no such recipe; there are {', '.join(recipes)}")
    return [path for name, path in recipes.items() if name in only or not only]


def find_missing(recipes: Iterable[Path], folders: Sequence[Path], seeds: int) -> Iterator[MissingRuns]:
    """The missing runs of each recipe; of one with nothing missing, no seeds.

    A run counts where its options are the recipe's own, but for the seed and what does not change the result.
    """
    runs = [(run, read_json(run / "config.json")) for folder in folders for run in runs_below(folder)]
    for recipe in recipes:
        experiment = _experiment(recipe)
        of_recipe = _runs_by_seed(runs, experiment)
        measured = {seed for seed, found in of_recipe.items() if any(map(is_measured, found))}
        begun = {seed: found[-1] for seed, found in of_recipe.items() if seed not in measured and seed < seeds}
        left = tuple(seed for seed in range(seeds) if seed not in measured and seed not in begun)
        yield MissingRuns(recipe, left, begun, _obstacle(experiment), folders[0])


def _experiment(recipe: Path) -> Experiment:
    """The experiment of the recipe, without a command line (whose parsing takes longer than all else here)."""
    found = runpy.run_path(str(recipe)).get("experiment")
    if not callable(found):
        raise XmrError(f"{recipe} is no recipe: it has no function `experiment`")
    experiment: Experiment = found()
    return experiment


def _runs_by_seed(runs: Iterable[tuple[Path, Mapping[str, Any]]], experiment: Experiment) -> dict[int, list[Path]]:
    wanted = wanted_options(experiment)
    found: dict[int, list[Path]] = {}
    for run, own in runs:
        if own.get("name") == experiment.name and fits(options_of(own), wanted):
            found.setdefault(read_about(run).train.seed, []).append(run)
    return found


def _obstacle(experiment: Experiment) -> str:
    shards = experiment.data.shards
    return "" if (shards / manifest.NAME).exists() else f"no shards in {shards} yet"


def _commands(todo: Iterable[MissingRuns]) -> Iterator[str]:
    for each in todo:
        for seed, run in sorted(each.begun.items()):
            go_on = f"; to go on, if it is not under way: {each.command(seed, run.name)}"
            yield shell_comment(f"begun, not measured: {run}{go_on if _is_one_line(run.name) else ''}")
        for seed in each.seeds:
            command = each.command(seed, f"seed-{seed}")
            obstacle = each.obstacle or ("" if _is_one_line(command) else "control characters in a name")
            yield shell_comment(f"{obstacle}: {command}") if obstacle else command


def _is_one_line(text: str) -> bool:
    """True for text that a terminal can hand on as it is."""
    return one_line(text) == text


def submit_missing(todo: Iterable[MissingRuns]) -> Iterator[str]:
    """Submit a recipe's seeds as one array; what was done, or why not, in a line for each recipe.

    Seeds that wait in the queue, or run, are not submitted again.

    Raises:
        XmrError: there is no sbatch or no slurm/seeds.sh here, or Slurm refuses.
    """
    require_slurm(SCRIPT, "run the commands that `xmr table --missing` shows")
    waiting_or_running = queued()
    for each in todo:
        name = each.recipe.stem
        for run in each.begun.values():
            yield f"{name}: {run} is begun and not measured; not submitted"
        waiting = [seed for seed in each.seeds if (seed, name) in waiting_or_running]
        if waiting:
            yield f"{name}: seeds {ranges(waiting)} are in the queue"
        left = [seed for seed in each.seeds if seed not in waiting]
        if left and each.obstacle:
            yield f"{name}: {each.obstacle}; not submitted"
        elif left:
            job = submit_array(name, left, SCRIPT, str(each.recipe), *each.options)
            yield f"{name}: seeds {ranges(left)} are job {job}"
