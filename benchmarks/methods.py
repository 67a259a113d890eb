"""Every method on Flickr8k, end to end and with frozen towers, in one table.

    python -m benchmarks.methods data/shards docs/results/methods_flickr8k.csv

Runs the recipes recipes/*_flickr8k.py one after the other (or a few at a time), each as its own process, and gathers
what each measured on its test split. What has been measured already, in the same table, is not run again.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from xmr_e2e.console import console, report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

RECIPES = Path(__file__).parents[1] / "recipes"
# ALSCOR's own recipe trains AlexNet; here all methods have the same image tower.
SAME_TOWER = {
    "alscor_flickr8k": (
        "--method.image.name=resnet10_slim --data.image-size=96 --data.load-size=112 --data.max-tokens=80 "
        "--optimizer.lr-overrides.towers.image=1e-3 --train.epochs=8"
    ).split()
}
FIGURES = ("mAP@all", "mAP@50", "NDCG@500")
DIRECTIONS = ("image_to_text", "text_to_image")
COLUMNS = ("method", "towers", "epochs", "dataset", *(f"{d} {f}" for d in DIRECTIONS for f in FIGURES), "command")


@dataclass(frozen=True)
class Job:
    """One training."""

    recipe: str
    frozen: bool
    options: tuple[str, ...]

    @property
    def towers(self) -> str:
        return "frozen" if self.frozen else "end to end"

    def command(self, shards: Path, runs: Path) -> list[str]:
        data = "flickr8k_concepts" if self.recipe.startswith("semantic_sharing") else "flickr8k"
        return [
            str(RECIPES / f"{self.recipe}.py"),
            *("--data.shards", str(shards / data)),
            *("--train.runs", str(runs / self.towers.replace(" ", "-"))),
            *SAME_TOWER.get(self.recipe, ()),
            *(("--method.frozen",) if self.frozen else ()),
            *self.options,
        ]


def methods(
    shards: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    *,
    only: tuple[str, ...] = (),
    jobs: int = 1,
    runs: Path = Path("runs/methods"),
    options: str = "",
) -> None:
    """Train and measure every method on Flickr8k.

    Args:
        shards: the folder that holds the shards flickr8k and flickr8k_concepts
        out: the table to write, or to go on with (CSV)
        only: recipes to run, such as dscmr_flickr8k; all of them by default
        jobs: trainings at a time; each then has its share of the cores
        runs: the folder of the run folders
        options: given to each recipe: --options="--train.epochs=1 --data.workers=0"
    """
    names = sorted(path.stem for path in RECIPES.glob("*_flickr8k.py"))
    unknown = [name for name in only if name not in names]
    if unknown:
        raise XmrError(f"--only {unknown[0]}: no such recipe; there are {', '.join(names)}")
    rows = _read(out)
    given = tuple(shlex.split(options))
    wanted = [Job(name, frozen, given) for name in only or names for frozen in (False, True)]
    todo = [job for job in wanted if (job.recipe.removesuffix("_flickr8k"), job.towers) not in rows]
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(lambda job: _run(job, shards, runs, threads), todo):
            rows |= {(row["method"], row["towers"]): row for row in found}
            _write(out, rows.values())
    console.print(_table(list(rows.values())))
    console.print(f"table: {out}")


def _run(job: Job, shards: Path, runs: Path, threads: int) -> list[dict[str, Any]]:
    """Train, and read what was measured: the method's row and that of random rankings of the same items."""
    command = job.command(shards, runs)
    console.print(f"{job.recipe}, {job.towers}")
    log = runs / f"{job.recipe}-{job.towers.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as stream:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run([sys.executable, *command], stdout=stream, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise XmrError(f"{job.recipe} ended with status {done.returncode}; see {log}")
    run = max((runs / job.towers.replace(" ", "-") / job.recipe).iterdir())
    document = json.loads((run / "evaluation" / "test.json").read_bytes())
    epochs = json.loads((run / "config.json").read_bytes())["train"]["epochs"]
    shared = {"epochs": epochs, "dataset": document["dataset"]}
    name = job.recipe.removesuffix("_flickr8k")
    shown = " ".join(["accelerate launch recipes/" + Path(command[0]).name, *_shown(command[1:])])
    return [
        {"method": name, "towers": job.towers, **shared, **_scores(document["model"]), "command": shown},
        {"method": "random ranking", "towers": document["dataset"], **shared, **_scores(document["random"])},
    ]


def _shown(options: Sequence[str]) -> Iterator[str]:
    """The options that matter to whoever repeats it: not where files lie."""
    pairs = iter(options)
    for option in pairs:
        if option in ("--data.shards", "--train.runs"):
            next(pairs)
        else:
            yield option


def _scores(directions: dict[str, Any]) -> dict[str, str]:
    return {
        f"{direction} {figure}": f"{directions['figures'][direction]['scores'][figure]:.4f}"
        for direction in DIRECTIONS
        for figure in FIGURES
    }


def _read(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    if not path.exists():
        return {}
    with open(path, newline="") as stream:
        return {(row["method"], row["towers"]): row for row in csv.DictReader(stream)}


def _write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    writer = csv.DictWriter(_Lines(lines), COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (row["dataset"], row["method"] == "random ranking", row["method"])))
    write_atomically(path, "".join(lines).encode())


class _Lines:
    """A file that is a list."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="test split, epoch selected on validation", title_justify="left")
    for column in COLUMNS[:3]:
        table.add_column(column)
    for column in COLUMNS[4:-1]:
        table.add_column(column.replace("_to_", " → ").replace("image", "img"), justify="right")
    for row in rows:
        table.add_row(*(str(row[column]) for column in (*COLUMNS[:3], *COLUMNS[4:-1])))
    return table


if __name__ == "__main__":
    sys.exit(report_errors(lambda: tyro.cli(methods, prog="python -m benchmarks.methods")))
