"""The plan of a study: which of its runs exist, and which are to be trained."""

from __future__ import annotations

import fcntl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from xmr_e2e.errors import XmrError
from xmr_e2e.files import read_json, sha256_of
from xmr_e2e.runs.run import LOCK
from xmr_e2e.shards import manifest
from xmr_e2e.studies.runs import (
    LEFT_OPEN,
    Measurement,
    fits,
    options_of,
    read_about,
    read_environment,
    read_run,
    runs_below,
)
from xmr_e2e.studies.study import Row, Study

State: TypeAlias = Literal["measured", "running", "begun", "new", "no shards"]
_Key: TypeAlias = tuple[str, int, frozenset[tuple[str, str]]]
"""recipe, seed and options"""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study: where it is, or will be."""

    row: Row
    seed: int
    folder: Path
    state: State
    measurements: tuple[Measurement, ...] = ()
    """on its own data"""

    @property
    def is_to_do(self) -> bool:
        return self.state in ("begun", "new")

    def __str__(self) -> str:
        return f"{self.row.recipe}, {self.row.variant.name}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs of a study, each once: where a sweep's point is the recipe as it stands, both have the same run."""

    study: Study
    runs: tuple[PlannedRun, ...]
    folder: Path
    """the folder of run folders"""

    def of_row(self, row: Row) -> list[PlannedRun]:
        """The runs of a row, seed after seed."""
        own = row.recipe, row.fingerprint
        return [run for run in self.runs if (run.row.recipe, run.row.fingerprint) == own]

    def count(self, *states: State) -> int:
        return sum(run.state in states for run in self.runs)


def plan_study(
    study: Study, folder: Path = Path("runs"), *, only: Sequence[str] = (), seeds: Sequence[int] = ()
) -> Plan:
    """Look for each run of a study among the runs in a folder: one counts that has the same options, seed and shards,
    whoever started it.

    Args:
        only: keys or names of rows, of which alone the runs are planned; all by default.
        seeds: in place of the study's own.

    Raises:
        XmrError: no such row; a variant that a recipe cannot have; or a run folder that cannot be understood.
    """
    rows = _chosen(study, only)
    existing = _existing(folder, study) if folder.is_dir() else {}
    planned: dict[tuple[str, str, int], PlannedRun] = {}
    for row in rows:
        for seed in seeds or study.seeds:
            if (row.recipe, row.fingerprint, seed) not in planned:
                candidates = existing.get(_key(row.recipe, seed, row.options), ())
                fitting = [each for each in candidates if fits(each.options, row.options)]
                found = max(fitting, key=lambda each: _RANKS[each.state], default=None)
                planned[row.recipe, row.fingerprint, seed] = _planned(row, seed, found, folder)
    return Plan(study, tuple(planned.values()), folder)


def _chosen(study: Study, only: Sequence[str]) -> list[Row]:
    named = {row.key: {row.key, row.variant.name, row.recipe} for row in study.rows}
    for word in only:
        if not any(word in names for names in named.values()):
            there = dict.fromkeys([*(row.recipe for row in study.rows), *(row.variant.name for row in study.rows)])
            raise XmrError(f"--only {word}: the study has no such row; there are {', '.join(there)}")
    return [row for row in study.rows if not only or named[row.key] & set(only)]


@dataclass(frozen=True)
class _Found:
    """A run folder of one of the study's recipes."""

    folder: Path
    options: Mapping[str, Any]
    state: State
    measurements: tuple[Measurement, ...]


_RANKS: Mapping[State, int] = {"measured": 3, "running": 2, "begun": 1, "new": 0, "no shards": 0}
"""of several runs that are alike, the one that has come furthest counts"""


def _existing(folder: Path, study: Study) -> dict[_Key, list[_Found]]:
    """The runs of the study's recipes, on the same data as far as these are at hand."""
    shards = {recipe.name: _manifest_sha256(recipe.data.shards) for recipe in study.recipes}
    found: dict[_Key, list[_Found]] = defaultdict(list)
    for path in runs_below(folder):
        configuration = read_json(path / "config.json")
        name = str(configuration.get("name"))
        if name in shards and _is_of(path, shards[name]):
            options = options_of(configuration)
            measured = tuple(each for each in read_run(path) if each.is_of_own_shards)
            own = _Found(path, options, _state(path, measured), measured)
            found[_key(name, read_about(path).train.seed, options)].append(own)
    return found


def _key(recipe: str, seed: int, options: Mapping[str, Any]) -> _Key:
    said = ((name, repr(value)) for name, value in options.items() if name not in LEFT_OPEN)
    return recipe, seed, frozenset(said)


def _planned(row: Row, seed: int, found: _Found | None, folder: Path) -> PlannedRun:
    where = found.folder if found else folder / row.recipe / row.run_name(seed)
    state = found.state if found else "new"
    if state in ("begun", "new") and not (row.experiment.data.shards / manifest.NAME).is_file():
        state = "no shards"
    return PlannedRun(row, seed, where, state, found.measurements if found else ())


def _manifest_sha256(shards: Path) -> str | None:
    path = shards / manifest.NAME
    return sha256_of(path) if path.is_file() else None


def _is_of(run: Path, manifest_sha256: str | None) -> bool:
    """True for a run that was trained on these shards, as far as they are at hand."""
    return manifest_sha256 is None or read_environment(run).manifest_sha256 == manifest_sha256


def _state(run: Path, measurements: Sequence[Measurement]) -> State:
    if measurements:
        return "measured"
    return "running" if _is_in_use(run) else "begun"


def _is_in_use(run: Path) -> bool:
    """True while a training has the folder."""
    try:
        with open(run / LOCK) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no file, or a file system without locks
        return False
    return False
