"""The assignment of samples to splits: the publishers' names for splits, and splits drawn with a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from random import Random

from xmr_e2e.errors import XmrError

ALIASES = {"train": "train", "val": "val", "dev": "val", "valid": "val", "validation": "val", "test": "test"}

SPLIT_FROM = 3
"""Samples of which a class gives one to each split; one with fewer is all in train."""


def canonical_split(name: str, where: str) -> str:
    """ "train", "val" or "test"; `where` (file and line) is for the error.

    Raises:
        XmrError: the name is none that is used for these.
    """
    try:
        return ALIASES[name.strip().lower()]
    except KeyError:
        raise XmrError(f"{where}: split {name!r} is none of {', '.join(ALIASES)}") from None


def draw_splits(
    class_of: Mapping[str, str], *, val: float, test: float, seed: int, together: Iterable[Sequence[str]] = ()
) -> dict[str, str]:
    """Assign each sample to a split, each class by itself, so that the splits hold the same mixture of classes.

    A class of n samples gives round(n * val) and round(n * test) to these splits, at least one each if n is 3 or more,
    and the rest to train. The result depends on the ids, the fractions and the seed, but not on the order of samples
    or on other classes.

    Args:
        class_of: sample id -> its class.
        val: fraction from 0 to 1; with 0 there is no such split.
        test: as `val`.
        together: ids that belong into one split, such as those of copies of a picture; of several classes, they go
            where the first of them goes. A class that holds fewer than three that differ is drawn without regard to it.

    Raises:
        XmrError: the fractions leave nothing to train on.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):  # nan, too
        raise XmrError(f"the fractions val {val} and test {test} must not be negative and must add to less than 1")
    first_of = _first_of(class_of, together)
    sizes = Counter(first_of.values())
    units: dict[str, list[str]] = {}
    for source in sizes:
        units.setdefault(class_of[source], []).append(source)
    splits: dict[str, str] = {}
    for name, sources in units.items():
        order = sorted(sources)
        Random(f"{seed}/{name}").shuffle(order)
        splits |= _draw_class(order, sizes, val=val, test=test)
    return {source: splits[first] for source, first in first_of.items()}


def _draw_class(order: Sequence[str], sizes: Mapping[str, int], *, val: float, test: float) -> dict[str, str]:
    """The split of each id, which stands for `sizes` samples, of one class."""
    splits = dict.fromkeys(order, "train")
    count = sum(sizes[source] for source in order)
    for split, fraction in (("val", val), ("test", test)):
        left = [source for source in order if splits[source] == "train"]
        room = wanted = _share(count, fraction)
        for source in left:
            if sizes[source] <= room:
                splits[source] = split
                room -= sizes[source]
        if room == wanted > 0 and len(left) > 1:  # too many copies of each for the share: then those of the fewest
            splits[min(left, key=lambda source: sizes[source])] = split
    return splits


def _first_of(class_of: Mapping[str, str], together: Iterable[Sequence[str]]) -> dict[str, str]:
    """Each id's first companion: of those that are linked, the one that comes first in the alphabet."""
    link = {source: source for source in class_of}

    def end(source: str) -> str:
        while link[source] != source:
            link[source] = source = link[link[source]]
        return source

    for group in together:
        for one, other in pairwise(group):
            first, second = sorted((end(one), end(other)))
            link[second] = first
    first_of = {source: end(source) for source in link}
    members: dict[str, list[str]] = {}
    for source, name in class_of.items():
        members.setdefault(name, []).append(source)
    for sources in members.values():
        if len({first_of[source] for source in sources}) < SPLIT_FROM <= len(sources):
            first_of |= {source: source for source in sources}
    return first_of


def _share(count: int, fraction: float) -> int:
    if fraction == 0 or count < SPLIT_FROM:
        return 0
    return max(1, round(count * fraction))
