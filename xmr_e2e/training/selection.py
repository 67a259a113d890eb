"""Epoch selection and the checks it needs of the dataset."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import SelectedOn
from xmr_e2e.methods.base import Stage
from xmr_e2e.runs.evaluate import SELECTABLE, check_measurable
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.shards.index import load_index
from xmr_e2e.shards.manifest import Manifest, Shard, load_manifest

_MOST_HARM_FIRST: tuple[SelectedOn, ...] = ("test", "training loss", "val", "nothing")


def selection_criterion(stage: Stage, train: Train) -> str:
    """The criterion by which the stage's epoch is kept: a figure, "loss", "training loss" or "last"."""
    if stage.closed_form:
        return "last"
    return (train.rules.select or train.select) if stage.select == "metric" else stage.select


def validation_split(train: Train) -> Literal["val", "test"]:
    """The split on which an epoch is validated. It is the test split only where a released script does so."""
    return "test" if train.rules.selected_on == "test" else "val"


def selected_on(stages: Sequence[Stage], train: Train, splits: Container[str]) -> SelectedOn:
    """The basis of the choice of a stage's epoch; of several, the one that spoils the figures most."""
    split = validation_split(train)
    where: dict[str, SelectedOn] = {"training loss": "training loss", "last": "nothing"}
    found = {where.get(selection_criterion(stage, train), split if split in splits else "nothing") for stage in stages}
    return next(each for each in _MOST_HARM_FIRST if each in found)


def describe_selection(epoch: int, select: str, split: Literal["val", "test"] = "val") -> str:
    """The choice of an epoch in words, for whoever reads its figures."""
    name = {"val": "validation", "test": "test"}[split]
    if select == "last":
        return f"epoch {epoch + 1}, the last one"
    if select == "loss":
        return f"epoch {epoch + 1}, the one with the least loss on the {name} split"
    return f"epoch {epoch + 1}, the best by {select} on the {name} split (average of all directions)"


def describe_selection_by_batch(epoch: int, step: int) -> str:
    """As `selection`, where a batch's loss has chosen the step after which the weights were kept."""
    return f"epoch {epoch + 1}, step {step}, whose training batch had the least loss of those looked at"


def check_splits(experiment: Experiment, manifest: Manifest) -> None:
    """Raise XmrError, before hours are spent, for data on which this training or its evaluation cannot end well."""
    folder, train = experiment.data.shards, experiment.train
    if "train" not in manifest.splits:
        raise XmrError(f"{folder} has no training split; it has {', '.join(manifest.splits)}")
    _check_select(train.select)
    chosen = train.rules
    needed, split = chosen.select or train.select, validation_split(train)
    if needed not in ("last", "training loss") and split not in manifest.splits:
        name = {"val": "validation", "test": "test"}[split]
        raise XmrError(
            f"{folder} has no {name} split to select the epoch on; build the shards with one, "
            "or keep the last epoch with --train.select last"
            + ("" if chosen.select is None else " and another --train.protocol")
        )
    measured = next((name for name in ("test", "val") if name in manifest.splits), None)
    learns_labels = experiment.method.needs_labels or (experiment.method.starts_from_labels and manifest.classes)
    needing = [*(["train"] if learns_labels else []), split, *([measured] if measured else [])]
    for name in dict.fromkeys(needing):
        if name in manifest.splits:
            check_labels(folder, manifest, name, tuple(experiment.method.towers))
    if learns_labels:
        for other in map(Path, experiment.data.extra_shards):
            check_labels(other, load_manifest(other), "train", tuple(experiment.method.towers))
    if chosen.selected_on == "val" and needed != "last":
        check_apart(folder, manifest)
    if measured:
        check_measurable(chosen, experiment.data, measured, experiment.method.input_kinds)


def check_labels(folder: Path, manifest: Manifest, split: str, modalities: Sequence[str]) -> None:
    """Raise XmrError where samples of a split that have one of these modalities have no label."""
    part = manifest.splits[split]
    if not manifest.multi_label and sum(part.labels.values()) == part.samples:
        return  # a label each; of several labels, the counts do not tell
    count, first = 0, ""
    for shard in part.shards:
        index = load_index(folder / shard.name, shard, len(manifest.classes))
        found = np.any([index.has(modality) for modality in modalities], axis=0) & ~index.has_labels
        if not count and found.any():
            first = index.key(int(found.argmax()))
        count += int(found.sum())
    if count == part.samples:
        raise XmrError(
            f"{folder}: the samples of the split {split!r} have no labels, by which methods train and mAP counts; "
            "build the shards with a label table"
        )
    if count:
        raise XmrError(
            f"{folder}: {count:,} of {part.samples:,} samples of the split {split!r} have no label (the first: "
            f"{first}), by which {'methods train' if split == 'train' else 'mAP counts'}; label them, or leave them "
            "out and build the shards again"
        )


def _check_select(select: str) -> None:
    if select in (*SELECTABLE, "last"):
        return
    if "test" in re.split(r"\W+", select.lower()):
        raise XmrError(
            f"--train.select {select!r}: where the epoch was selected on the test split, its figures there are no "
            "measurement; select on validation (such as --train.select mAP@all). To repeat a script that selected on "
            "test, name it with --train.protocol released:dscmr, and every result says so"
        )
    raise XmrError(f"--train.select {select!r} is none of {', '.join(SELECTABLE)}, last")


def check_apart(folder: Path, manifest: Manifest) -> None:
    """Raise XmrError where validation and test have samples in common, by the manifest and the shards' indexes."""
    if not {"val", "test"} <= manifest.splits.keys():
        return
    val, test = (manifest.splits[name].shards for name in ("val", "test"))
    sums = {shard.sha256: shard.name for shard in test}
    common = [f"the shard {shard.name} is {sums[shard.sha256]}" for shard in val if shard.sha256 in sums]
    if not common:
        identities = [{each for shard in part for each in _identities(folder, shard, manifest)} for part in (val, test)]
        shared = sorted(str(key) for key, *_ in identities[0] & identities[1])
        common = [f"{len(shared)} of {len(identities[0])} samples, the first {shared[0]}"] if shared else []
    if common:
        raise XmrError(
            f"{folder}: the validation split shares samples with the test split ({common[0]}), so to select on it is "
            "to select on test. Build the shards with a validation split of their own, or keep the last epoch "
            "(--train.select last); to repeat a script that selected on test, name it (--train.protocol released:dscmr)"
        )


def _identities(folder: Path, shard: Shard, manifest: Manifest) -> Iterator[tuple[object, ...]]:
    """The identity of each sample of a shard: its key, made of its source; other tools' keys, such as numbers, tell
    samples of different splits apart only with the sizes of what they hold."""
    index = load_index(folder / shard.name, shard, len(manifest.classes))
    if not manifest.adopted:
        yield from ((key,) for key in index.keys)
        return
    extensions = sorted(index.members)
    sizes = np.stack([index.members[extension][:, 1] for extension in extensions], axis=1).tolist()
    for key, row in zip(index.keys, sizes):
        yield key, *(pair for pair in zip(extensions, row) if pair[1] >= 0)
