"""Reasons why a figure cannot be compared with those beside it, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from xmr_e2e.studies.groups import Group
from xmr_e2e.studies.published import PublishedTable, papers
from xmr_e2e.studies.runs import SPLITS, Setting, Sizes

EPOCHS = {
    "val": "the best on the validation split",
    "test": "the best on the test split itself",
    "training loss": "the one with the lowest loss of a training batch",
    "nothing": "the last, not chosen",
}
"""which epoch is measured, by the words of evaluation/*.json for what it is chosen on"""
SYNTHETIC = re.compile(r"synthetic \((.+) layout\)")
LABELS = re.compile(r"\(labels from (.+)\)")


def family(dataset: str) -> str:
    """The published dataset of which `dataset` is a subset, a split or an imitation."""
    if imitated := SYNTHETIC.fullmatch(dataset):
        return imitated[1].lower().replace(" ", "_")
    return "nuswide" if dataset.startswith("nuswide_") else dataset


def _has_published(option: str, options: Mapping[str, object]) -> bool:
    """True for the weights of a network that others have published; those of words in a row nobody has."""
    return option.endswith(".weights") and (not option.endswith(".text.weights") or f"{option[:-8]}.name" in options)


def split_sizes(sizes: Sizes) -> str:
    """Train/val/test, with a question mark for what is not known."""
    return "/".join("?" if size is None else f"{size:,}" for size in sizes)


def marks_of_published(table: PublishedTable, method: str, group: Group) -> Iterator[str]:
    """Differences between published figures of a method and a group that measured the same metric."""
    setting, paper = group.first.setting, papers()[table.paper]
    if table.dataset != setting.dataset:
        yield f"published on {table.printed} ({table.dataset}); here {setting.dataset}"
    yield from _other_sizes(table, setting)
    if table.classes and group.first.classes not in (None, table.classes):
        yield f"published with {table.classes} classes; here {group.first.classes}"
    if setting.with_train:
        yield "published with the test split alone as gallery; here the training split is in it, too"
    is_own = method == table.paper
    if is_own and paper.selected_on not in ("", group.first.selected_on):
        yield f"epoch as published: {EPOCHS[paper.selected_on]}; here: {EPOCHS[group.first.selected_on]}"
    yield from table.notes
    if paper.note:
        yield paper.note
    if paper.baselines and not is_own:
        yield paper.baselines


def _other_sizes(table: PublishedTable, setting: Setting) -> Iterator[str]:
    here = dict(zip(SPLITS, setting.sizes))
    if setting.split != "test":
        yield f"published on the test split; here the {setting.split} split"
    if any(here[split] not in (None, size) for split, size in table.samples.items()):
        stated = ", ".join(f"{split} {size:,}" for split, size in table.samples.items())
        yield f"published with {stated}; here {split_sizes(setting.sizes)} (train/val/test)"


def marks_of_group(group: Group) -> Iterator[str]:
    """Obstacles to comparing a group of runs with anything, or its runs with each other."""
    first, setting = group.first, group.first.setting
    if SYNTHETIC.fullmatch(setting.dataset):
        yield "synthetic data, not the dataset's own"
    if labels := LABELS.search(setting.dataset):
        yield f"labels from {labels[1]}, not the publisher's"
    if not first.is_of_own_shards:
        yield "trained on other shards than these"
    if rate := first.options.get("data.label_noise"):
        yield f"trained with wrong labels: {rate:g} of them, {first.options.get('data.label_noise_kind')}"
    yield from first.leaks
    mixed = [name.removeprefix("data.extra_shards.") for name in first.options if name.startswith("data.extra_shards.")]
    if mixed:
        yield f"trained on other shards, too: {', '.join(mixed)}"
    random = [
        name
        for name, value in first.options.items()
        if value == "none" and name != "method.weights" and _has_published(name, first.options)
    ]
    if random:
        yield f"no pretrained weights ({', '.join(random)} none)"
    if first.differences:
        yield f"protocol {setting.protocol}: {' '.join(first.differences)}"
    elif first.selected_on != "val":
        yield f"epoch: {EPOCHS[first.selected_on]}"
    commits = sorted({each.commit for each in group.measurements})
    if len(commits) > 1:
        yield f"its runs are of {len(commits)} versions of the code: {', '.join(commits)}"
    for seed, measurements in group.by_seed.items():
        if len(measurements) > 1:
            yield f"seed {seed} was run {len(measurements)} times and counts once, with the mean"
