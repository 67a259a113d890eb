"""Epoch selection and the checks it needs of the dataset."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.figures import RSUM
from xmr_e2e.evaluation.protocol import CLEAN, SelectedOn
from xmr_e2e.evaluation.retrieval import MetricSpec
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.discovery import methods_without_labels
from xmr_e2e.methods.stages import Stage
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.runs.evaluate import SELECTABLE, check_measurable
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.shards.index import load_index
from xmr_e2e.shards.manifest import Manifest, Shard, load_manifest

_MOST_HARM_FIRST: tuple[SelectedOn, ...] = ("test", "training loss", "val", "nothing")
SPLIT_NAMES = {"val": "validation", "test": "test"}
"""for a person"""
WITH_LABELS, WITHOUT_LABELS = "mAP@all", RSUM
"""the figures by which epochs are chosen where --train.select is left open"""


def with_defaults(experiment: Experiment, manifest: Manifest) -> Experiment:
    """The experiment with the selection and the protocol that its options leave open, as the data allow them.

    Without labels where it is measured, epochs are chosen by the sum of recalls, and each caption is an item, if the
    method reads texts.
    """
    train = experiment.train
    if None not in (train.select, train.protocol):
        return experiment
    labeled = _measured_by_labels(manifest)
    reads_texts = experiment.method.input_kinds.get("text") == "tokens"
    select = train.select or (WITH_LABELS if labeled else WITHOUT_LABELS)
    protocol = train.protocol or ("captions" if reads_texts and not labeled else CLEAN.name)
    return replace(experiment, train=replace(train, select=select, protocol=protocol))


def _measured_by_labels(manifest: Manifest) -> bool:
    """False where no sample of the splits that are measured has a label."""
    measured = [split for name, split in manifest.splits.items() if name != "train"] or [*manifest.splits.values()]
    return any(any(split.labels.values()) for split in measured)


def selection_criterion(stage: Stage, train: Train) -> str:
    """The criterion by which the stage's epoch is kept: a figure, "loss", "training loss" or "last"."""
    if stage.closed_form:
        return "last"
    return (train.rules.select or train.select or WITH_LABELS) if stage.select == "metric" else stage.select


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
    name = SPLIT_NAMES[split]
    if select == "last":
        return f"epoch {epoch + 1}, the last one"
    if select == "loss":
        return f"epoch {epoch + 1}, the one with the least loss on the {name} split"
    over = "sum over" if select == RSUM else "average of"
    return f"epoch {epoch + 1}, the best by {select} on the {name} split ({over} all directions)"


def describe_selection_by_batch(epoch: int, step: int) -> str:
    """As `selection`, where a batch's loss has chosen the step after which the weights were kept."""
    return f"epoch {epoch + 1}, step {step}, whose training batch had the least loss of those looked at"


@dataclass(frozen=True)
class Choice:
    """The consequence of an epoch's validation for the weights that are kept."""

    best: float | None
    """the best score of the stage so far"""
    shown: str
    """the epoch's figure, in words"""
    kept: str | None = None
    """the choice in words where the epoch's weights are to be kept"""


def choose_epoch(
    select: str, scores: Mapping[str, float], progress: TrainingProgress, split: Literal["val", "test"] | None
) -> Choice:
    """The choice at the end of the epoch in which the training stands.

    Args:
        select: the stage's `selection_criterion`.
        scores: of the epoch's validation; empty where there is no split to validate on.
        split: on which it was validated.

    Raises:
        XmrError: the criterion counts pairs, and there are none.
    """
    best, epoch = progress.best, progress.epoch
    if select == "training loss":
        return Choice(best, f"lowest loss of a batch {-(best or 0.0):.4f}")
    if select == "last" or not scores:
        return Choice(best, "no selection", describe_selection(epoch, "last"))
    if select != "loss" and f"average {select}" not in scores:
        raise XmrError(f"--train.select {select} counts pairs, and no validation sample has two modalities; "
                       "select by a figure that counts labels, such as mAP@all")  # fmt: skip
    assert split, "there are scores"
    value = -scores["loss"] if select == "loss" else scores[f"average {select}"]
    shown = f"{SPLIT_NAMES[split]} {select} {abs(value):.4f}"
    if best is None or value > best:
        return Choice(value, shown, describe_selection(epoch, select, split))
    return Choice(best, f"{shown}, best {abs(best):.4f}")


def check_splits(experiment: Experiment, manifest: Manifest) -> None:
    """Raise XmrError, before hours are spent, for data on which this training or its evaluation cannot end well."""
    experiment = with_defaults(experiment, manifest)
    folder, train = experiment.data.shards, experiment.train
    if "train" not in manifest.splits:
        raise XmrError(f"{folder} has no training split; it has {', '.join(manifest.splits)}")
    chosen = train.rules
    needed, split = str(chosen.select or train.select), validation_split(train)
    _check_select(str(train.select))
    if needed not in ("last", "training loss") and split not in manifest.splits:
        raise XmrError(
            f"{folder} has no {SPLIT_NAMES[split]} split to select the epoch on; build the shards with one, "
            "or keep the last epoch with --train.select last"
            + ("" if chosen.select is None else " and another --train.protocol")
        )
    measured = next((name for name in ("test", "val") if name in manifest.splits), None)
    _check_all_labels(experiment, manifest, [split, *([measured] if measured else [])])
    if needed in MetricSpec().by_label and split in manifest.splits and not any(manifest.splits[split].labels.values()):
        raise XmrError(
            f"--train.select {needed} counts by labels, and the samples of the split {split!r} of {folder} have none: "
            f"select by {RSUM}, {', '.join(MetricSpec().by_pair)}, or keep the last epoch (--train.select last)"
        )
    if chosen.selected_on == "val" and needed != "last":
        check_apart(folder, manifest)
    if measured:
        check_measurable(chosen, experiment.data, measured, experiment.method.input_kinds)


def _check_all_labels(experiment: Experiment, manifest: Manifest, measured: Sequence[str]) -> None:
    """Raise XmrError where labels are missing by which the method learns, or by which some samples alone are measured.

    Args:
        measured: splits, whether the shards have them or not.
    """
    method, folder = experiment.method, experiment.data.shards
    modalities = tuple(method.towers)
    learns_labels = method.needs_labels or (method.starts_from_labels and bool(manifest.classes))
    if learns_labels:
        for shards in (folder, *map(Path, experiment.data.extra_shards)):
            if method.needs_labels:
                _check_taken(method, shards, load_manifest(shards))
            check_labels(shards, load_manifest(shards), "train", modalities)
    for name in dict.fromkeys(measured):
        if name in manifest.splits and (learns_labels or any(manifest.splits[name].labels.values())):
            check_labels(folder, manifest, name, modalities)


def _check_taken(method: MethodConfig, shards: Path, manifest: Manifest) -> None:
    """Raise XmrError for a method that learns from labels and a training split without a single one."""
    if not any(manifest.splits["train"].labels.values()):
        raise XmrError(
            f"{shards}: the samples of the split 'train' have no labels, by which {method.title} trains. Methods that "
            f"take pairs without labels: {', '.join(methods_without_labels())}; or build the shards with a label table"
        )


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
