"""Measurements of runs, from the files in their folders: config.json, environment.json and evaluation/*.json."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field

from xmr_e2e.configuration import current_type, flatten, from_document, to_document
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.figures import Directions
from xmr_e2e.evaluation.protocol import Name, SelectedOn
from xmr_e2e.evaluation.result import EvaluationResult, TrainingCost, read_result
from xmr_e2e.files import read_json, sha256_of
from xmr_e2e.methods.discovery import method_name
from xmr_e2e.received import parse, read_bytes
from xmr_e2e.runs.continuation import RESUME_IGNORED_FIELDS
from xmr_e2e.shards import manifest
from xmr_e2e.studies.current import is_current

if TYPE_CHECKING:
    from xmr_e2e.runs.experiment import Experiment

CONFIGURATION, ENVIRONMENT = "config.json", "environment.json"
EXPERIMENT = "xmr_e2e.runs.experiment:Experiment"
SPLITS = ("train", "val", "test")
Sizes: TypeAlias = tuple[int | None, ...]
UNKNOWN: Sizes = (None, None, None)
LEFT_OPEN = ("train.select", "train.protocol")
"""options that a training fills in by its data, where nobody has said them"""


@dataclass(frozen=True)
class _Typed:
    type: Name


@dataclass(frozen=True)
class _Train:
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)]


@dataclass(frozen=True)
class _Data:
    shards: Annotated[str, Field(max_length=4096)]


@dataclass(frozen=True)
class About:
    """The part of a run's config.json that a table needs."""

    name: Name
    method: _Typed
    train: _Train
    data: _Data


@dataclass(frozen=True)
class TrainedOn:
    """The part of a run's environment.json that a table needs."""

    manifest_sha256: Name = ""
    commit: Name = "unknown"


@dataclass(frozen=True)
class Setting:
    """The setting of a measurement, its data and protocol: only figures of one setting stand in one table."""

    dataset: str
    split: str
    sizes: Sizes
    """samples of train, val and test; None where the training's shards are not at hand to say so"""
    protocol: str
    with_train: bool
    """true if the gallery holds the training split's items, too"""


@dataclass(frozen=True)
class Measurement:
    """One file of a run's evaluation/."""

    run: Path
    recipe: str
    method: str
    """as `method_name` has it: "dscmr\""""
    seed: int
    options: Mapping[str, Any]
    """the configuration, flat, without what does not change the result, and without the seed"""
    shards: str
    """the beginning of the sha256 of the training's manifest"""
    commit: str
    setting: Setting
    selected_on: SelectedOn
    """basis of the choice of the epoch"""
    differences: tuple[str, ...]
    """of the protocol, from clean, in sentences"""
    is_of_own_shards: bool
    """and not of another dataset than the run was trained on"""
    leaks: tuple[str, ...]
    """known leaks that make the figures too high, in sentences"""
    classes: int | None
    """of the dataset; None where the file does not say so"""
    scores: Mapping[str, Mapping[str, float]]
    """direction, "average", or mixed pool -> metric -> value"""
    random: Mapping[str, Mapping[str, float]]
    training: TrainingCost | None = None
    """None where the file does not say what it took"""


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run folders among these folders and below them, in order, each once.

    Raises:
        XmrError: a folder is not there, or neither is a run nor holds any.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise XmrError(f"{folder}: no such folder")
        runs = list(runs_below(folder))
        if not runs:
            raise XmrError(f"{folder} is no run folder and holds none (a run folder has a config.json)")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return sorted(found.values())


def runs_below(folder: Path) -> Iterator[Path]:
    """The run folders in a folder, or itself."""
    for root, folders, files in os.walk(folder):
        if CONFIGURATION in files and current_type(read_json(Path(root, CONFIGURATION)).get("type")) == EXPERIMENT:
            folders.clear()
            yield Path(root)


def has_begun(run: Path) -> bool:
    """True for a run that took a step or kept a model, not for one whose start failed before."""
    metrics = run / "metrics.jsonl"
    return (run / "model.safetensors").exists() or (metrics.exists() and metrics.stat().st_size > 0)


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration (config.json) flat, without what does not change the result, and without the seed.

    Options that came after the run have their defaults, by which this library does what it did before.
    """
    if not is_current(config):
        config = _as_read_now(config)
    free = {*RESUME_IGNORED_FIELDS, "train.seed"}
    return {name: value for name, value in flatten(config) if name not in free}


def _as_read_now(config: Mapping[str, Any]) -> Mapping[str, Any]:
    # Here: it imports torch, which a table of runs of this version does without.
    from xmr_e2e.runs.experiment import Experiment

    # Left as it is: of a version that had other options, with a method that is not of this package, or of a stranger,
    # whose values can be of any kind and make whatever reads them fail.
    with suppress(Exception):
        whole: Mapping[str, Any] = to_document(from_document(Experiment, config, "config.json"))
        return whole
    return config


def wanted_options(experiment: Experiment) -> dict[str, Any]:
    """`options_of` a training that is still to do: what its options leave open is as its data have it, if the shards
    are at hand, or None."""
    from xmr_e2e.training.selection import with_defaults  # as in `_as_read_now`

    shards = experiment.data.shards
    if (shards / manifest.NAME).is_file():
        experiment = with_defaults(experiment, manifest.load_manifest(shards))
    return options_of(to_document(experiment))


def fits(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True for a run with the options that `wanted_options` says; those that are not known do not count."""
    unknown = {name for name in LEFT_OPEN if wanted.get(name) is None}
    return all(own.get(name) == wanted.get(name) for name in (own.keys() | wanted.keys()) - unknown)


def read_about(run: Path) -> About:
    """A run's name, method, seed and shards. Raises XmrError where its config.json is no run's."""
    return parse(About, read_bytes(run / CONFIGURATION), str(run / CONFIGURATION))


def read_environment(run: Path) -> TrainedOn:
    """The data and code of a run, as far as it names them. Raises XmrError where its environment.json is no run's."""
    path = run / ENVIRONMENT
    return parse(TrainedOn, read_bytes(path), str(path)) if path.exists() else TrainedOn()


def read_run(run: Path) -> list[Measurement]:
    """The measurements of a run; none where it has no evaluation.

    Raises:
        XmrError: a file of the run cannot be understood.
    """
    return [_measurement(run, path) for path in sorted((run / "evaluation").glob("*.json"))]


def is_measured(run: Path) -> bool:
    """True for a run with an evaluation on its own data. Raises XmrError as `read_run`."""
    return any(each.is_of_own_shards for each in read_run(run))


def _measurement(run: Path, path: Path) -> Measurement:
    about = read_about(run)
    trained_on = read_environment(run)
    found = read_result(path)
    own = path.stem == found.split or path.stem.startswith(f"{found.split}-")
    sizes = _sizes(Path(about.data.shards), trained_on.manifest_sha256) if own else UNKNOWN
    return Measurement(
        run=run,
        recipe=about.name,
        method=method_name(about.method.type),
        seed=about.train.seed,
        options=options_of(read_json(run / CONFIGURATION)),
        shards=trained_on.manifest_sha256[:12],
        commit=trained_on.commit,
        setting=_setting(found, sizes),
        selected_on=_selected_on(found),
        differences=found.protocol.differences if found.protocol else (),
        is_of_own_shards=own,
        leaks=found.leaks,
        classes=len(found.classes) or None,
        scores=_scores(found.metrics.model),
        random=_scores(found.metrics.random),
        training=found.training,
    )


def _setting(found: EvaluationResult, sizes: Sizes) -> Setting:
    protocol = found.protocol  # runs from before there were protocols were measured as clean has it
    place = SPLITS.index(found.split)
    measured = next(iter(found.metrics.model.directions.values())).queries
    return Setting(
        dataset=found.dataset,
        split=found.split,
        sizes=(*sizes[:place], measured, *sizes[place + 1 :]),
        protocol=protocol.name if protocol else "clean",
        with_train=protocol is not None and protocol.gallery == "test+train",
    )


def _selected_on(found: EvaluationResult) -> SelectedOn:
    if found.protocol:
        return found.protocol.selected_on
    return "val" if "validation" in found.selection else "nothing"


def _scores(side: Directions) -> dict[str, Mapping[str, float]]:
    directions, pools = ({name: each.scores for name, each in of.items()} for of in (side.directions, side.pools))
    return {**directions, "average": side.average, **pools}


def _sizes(shards: Path, manifest_sha256: str) -> Sizes:
    """Of train, val and test: of their images where not all samples have one. Unknown without the training's shards."""
    path = shards / manifest.NAME
    try:
        is_at_hand = path.is_file() and sha256_of(path) == manifest_sha256
    except (OSError, ValueError):  # of a name that is none here, or a folder of others
        is_at_hand = False
    if not is_at_hand:
        return UNKNOWN
    try:
        splits = manifest.load_manifest(shards).splits
    except XmrError:  # of a manifest that breaks a rule which came after the training
        return UNKNOWN
    found = {name: split.modalities.get("image", split.samples) for name, split in splits.items()}
    return tuple(found.get(name, 0) for name in SPLITS)
