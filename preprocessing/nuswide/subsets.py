"""The subsets of NUS-WIDE that papers use: which concepts, which images, which splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from preprocessing.common.held_out import hold_out
from preprocessing.common.splits import draw_splits
from preprocessing.nuswide.files import Published, read_official
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.schema import SPLITS

TEN_OF_10K = ("animal", "clouds", "flowers", "food", "grass", "person", "sky", "toy", "water", "window")
PER_CLASS = 1000


@dataclass(frozen=True)
class Subset:
    """published: samples by split, as papers give them. concepts: their names, or how many of the most frequent."""

    published: Mapping[str, int]
    concepts: tuple[str, ...] | int
    single_label: bool = False
    official: bool = False
    """the publisher's train and test, instead of all images in train"""
    test: int = 0
    """so many images of train are drawn for test"""
    val: int = 0
    """so many images of `val_from` are drawn for val"""
    val_from: str = "train"


SUBSETS = {
    "10k": Subset({"train": 8000, "val": 1000, "test": 1000}, TEN_OF_10K, single_label=True),
    "10-class": Subset(
        {"train": 42941, "test": 28661}, 10, single_label=True, official=True, val=5000, val_from="test"
    ),
    "tc21": Subset({"train": 189834, "val": 5000, "test": 1000}, 21, test=1000, val=5000),
    "tc21-official": Subset({"train": 114117, "test": 76303}, 21, official=True, val=5000),
}


@dataclass(frozen=True)
class Candidates:
    """The images that a subset may use: image -> its labels, and image -> its text."""

    classes: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    texts: dict[str, str]
    notes: tuple[str, ...]


def find_candidates(published: Published, subset: Subset) -> Candidates:
    """The images with a label of the subset (exactly one, where it is single-label) and at least one tag.

    Raises:
        XmrError: a concept of the subset is not among the published ones.
    """
    classes = _classes(published, subset)
    labels = published.labels[:, [published.concepts.index(name) for name in classes]]
    counts = labels.sum(axis=1)
    wanted = counts == 1 if subset.single_label else counts > 0
    tagged = np.array([bool(text) for text in published.texts])
    rows = np.flatnonzero(wanted & tagged)
    names = [tuple(classes[column] for column in np.flatnonzero(row)) for row in labels[rows]]
    return Candidates(
        classes,
        labels=dict(zip((published.images[row] for row in rows), names)),
        texts={published.images[row]: published.texts[row] for row in rows},
        notes=_counted(int((wanted & ~tagged).sum()), "images of these classes have no tag, not used"),
    )


def _classes(published: Published, subset: Subset) -> tuple[str, ...]:
    """In the publisher's order, which is alphabetical."""
    if isinstance(subset.concepts, tuple):
        missing = [name for name in subset.concepts if name not in published.concepts]
        if missing:
            raise XmrError(f"Concepts81.txt lacks the concept {missing[0]!r} of this subset")
        return subset.concepts
    if len(published.concepts) < subset.concepts:
        raise XmrError(
            f"Concepts81.txt names {len(published.concepts)} concepts; this subset needs at least {subset.concepts}"
        )
    frequency = published.labels.sum(axis=0)
    chosen = np.argsort(-frequency, kind="stable")[: subset.concepts]
    return tuple(published.concepts[index] for index in sorted(chosen))


def split_images(
    name: str, candidates: Candidates, published: Published, *, raw: Path, val: int | None, seed: int
) -> tuple[dict[str, str], list[str]]:
    """Image -> split, for the images of the subset of that name, and notes about what was drawn.

    Raises:
        XmrError: `val` does not fit the subset, or a class of 10k has no image.
    """
    subset = SUBSETS[name]
    if name == "10k":
        if val is not None:
            raise XmrError("--val: the splits of 10k are 8,000/1,000/1,000 or the same shares of fewer images")
        return _draw_10k(candidates, seed)
    official = read_official(raw, published.images) if subset.official else dict.fromkeys(candidates.labels, "train")
    split_of = {image: official[image] for image in candidates.labels if image in official}
    if subset.test:
        split_of = hold_out(split_of, "test", pool="train", count=None, usual=subset.test, seed=seed)
    split_of = hold_out(split_of, "val", pool=subset.val_from, count=val, usual=subset.val, seed=seed)
    notes = _counted(len(candidates.labels) - len(split_of), "images are in neither TrainImagelist.txt nor "
                     "TestImagelist.txt, not used")  # fmt: skip
    return split_of, [*_drawn(subset, split_of, seed), *notes]


def _draw_10k(candidates: Candidates, seed: int) -> tuple[dict[str, str], list[str]]:
    """The same number of images of each class, split 8:1:1."""
    members: dict[str, list[str]] = {label: [] for label in candidates.classes}
    for image, (label,) in candidates.labels.items():
        members[label].append(image)
    smallest = min(members, key=lambda label: len(members[label]))
    each = min(PER_CLASS, len(members[smallest]))
    if each == 0:
        raise XmrError(f"no image with a tag has {smallest!r} as its only concept of the ten of 10k")
    class_of = {}
    for label, images in members.items():
        order = sorted(images)
        Random(f"{seed}/10k/{label}").shuffle(order)
        class_of.update(dict.fromkeys(order[:each], label))
    note = (
        f"{each:,} images of each class drawn with seed {seed} from the {len(candidates.labels):,} with exactly one of "
        "the ten concepts; no list of ids is published"
    )
    return draw_splits(class_of, val=0.1, test=0.1, seed=seed), [note]


def _drawn(subset: Subset, split_of: Mapping[str, str], seed: int) -> list[str]:
    counts = Counter(split_of.values())
    notes = []
    if subset.official:
        notes.append("train and test are the publisher's (TrainImagelist.txt, TestImagelist.txt)")
    else:
        notes.append(f"test: {counts['test']:,} images drawn with seed {seed}; no list of ids is published")
    if counts["val"]:
        notes.append(f"val: {counts['val']:,} images taken from {subset.val_from}, drawn with seed {seed}")
    return notes


def note_counts(subset: Subset, splits: Iterable[str]) -> str:
    """The published counts beside those found, to see at a glance whether these are the papers' files."""
    return f"published: {_in_words(subset.published)}; found here: {_in_words(Counter(splits))}"


def _in_words(counts: Mapping[str, int]) -> str:
    parts = [f"{counts[split]:,} {split}" for split in SPLITS if counts.get(split)]
    return f"{sum(counts.values()):,} ({', '.join(parts)})"


def _counted(count: int, what: str) -> tuple[str, ...]:
    return (f"{count:,} {what}",) if count else ()
