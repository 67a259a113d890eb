"""What runs measured, from the files in their folders: config.json, environment.json and evaluation/*.json."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from xmr_e2e.configuration import flatten, from_document, to_document
from xmr_e2e.engine.experiment import Experiment
from xmr_e2e.engine.run import FREE_TO_DIFFER
from xmr_e2e.errors import XmrError
from xmr_e2e.files import read_json, sha256_of
from xmr_e2e.shards import manifest

EXPERIMENT = "xmr_e2e.engine.experiment:Experiment"
SPLITS = ("train", "val", "test")
Sizes: TypeAlias = tuple[int | None, ...]
UNKNOWN: Sizes = (None, None, None)


@dataclass(frozen=True)
class Setting:
    """On what and how was measured: only figures of one setting stand in one table."""

    dataset: str
    split: str
    sizes: Sizes
    """samples of train, val and test; None where the training's shards are not at hand to say so"""
    protocol: str
    with_train: bool
    """whether the gallery holds the training split's items, too"""


@dataclass(frozen=True)
class Measurement:
    """One file of a run's evaluation/."""

    run: Path
    recipe: str
    method: str
    """the method's module: "dscmr\""""
    seed: int
    options: Mapping[str, Any]
    """the configuration, flat, without what does not change the result, and without the seed"""
    shards: str
    """the beginning of the sha256 of the training's manifest"""
    commit: str
    setting: Setting
    selected_on: str
    """what the epoch was chosen on: "val", "test", "training loss" or "nothing\""""
    differences: tuple[str, ...]
    """of the protocol, from clean, in sentences"""
    is_of_own_shards: bool
    """and not of another dataset than the run was trained on"""
    classes: int | None
    """of the dataset; None where the file does not say so"""
    scores: Mapping[str, Mapping[str, float]]
    """direction, or "average" -> metric -> value"""
    random: Mapping[str, Mapping[str, float]]


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
        if "config.json" in files and read_json(Path(root, "config.json")).get("type") == EXPERIMENT:
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
    # Left as it is: of a version that had other options, or with a method that is not of this package.
    with suppress(XmrError, TypeError):
        config = to_document(from_document(Experiment, config, "config.json"))
    free = {*FREE_TO_DIFFER, "train.seed"}
    return {name: value for name, value in flatten(config) if name not in free}


def read_run(run: Path) -> list[Measurement]:
    """What was measured of a run; nothing where it has no evaluation.

    Raises:
        XmrError: a file of the run cannot be understood.
    """
    return [_measurement(run, path) for path in sorted((run / "evaluation").glob("*.json"))]


def _measurement(run: Path, path: Path) -> Measurement:
    config = read_json(run / "config.json")
    environment = read_json(run / "environment.json") if (run / "environment.json").exists() else {}
    document = read_json(path)
    try:
        own = path.stem == document["split"] or path.stem.startswith(f"{document['split']}-")
        scores, random = _scores(document["model"]), _scores(document["random"])
        shards = environment.get("manifest_sha256", "")
        return Measurement(
            run=run,
            recipe=config["name"],
            method=config["method"]["type"].partition(":")[0].rpartition(".")[2],
            seed=config["train"]["seed"],
            options=options_of(config),
            shards=shards[:12],
            commit=environment.get("commit", "unknown"),
            setting=_setting(document, _sizes(Path(config["data"]["shards"]), shards) if own else UNKNOWN),
            selected_on=_selected_on(document),
            differences=tuple(document.get("protocol", {}).get("differences", ())),
            is_of_own_shards=own,
            classes=len(document["classes"]) if "classes" in document else None,
            scores=scores,
            random=random,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise XmrError(f"{path}: not what `xmr eval` writes ({type(error).__name__}: {error})") from error


def _setting(document: Mapping[str, Any], sizes: Sizes) -> Setting:
    protocol = document.get("protocol", {})  # runs from before there were protocols were measured as clean has it
    figures = {name: each for name, each in _directions(document["model"]).items() if name != "average"}
    place = SPLITS.index(document["split"])
    measured = next(iter(figures.values()))["queries"]
    return Setting(
        dataset=document["dataset"],
        split=document["split"],
        sizes=(*sizes[:place], measured, *sizes[place + 1 :]),
        protocol=protocol.get("name", "clean"),
        with_train=protocol.get("gallery") == "test+train",
    )


def _selected_on(document: Mapping[str, Any]) -> str:
    if "protocol" in document:
        return str(document["protocol"]["selected_on"])
    return "val" if "validation" in document["selection"] else "nothing"


def _directions(figures: Mapping[str, Any]) -> Mapping[str, Any]:
    """Direction -> its figures. Runs of the first versions have them without a name around."""
    return dict(figures.get("figures", figures))


def _scores(figures: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    by_direction = {name: each["scores"] for name, each in _directions(figures).items() if name != "average"}
    return {**by_direction, "average": figures["average"]}


def _sizes(shards: Path, manifest_sha256: str) -> Sizes:
    """Of train, val and test: of their images where not all samples have one. Unknown without the training's shards."""
    path = shards / manifest.NAME
    if not path.exists() or sha256_of(path) != manifest_sha256:
        return UNKNOWN
    splits = manifest.load_manifest(shards).splits
    found = {name: split.modalities.get("image", split.samples) for name, split in splits.items()}
    return tuple(found.get(name, 0) for name in SPLITS)
