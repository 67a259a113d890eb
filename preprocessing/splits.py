"""Which sample is in which split: the publishers' names for splits, and splits drawn with a seed."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from xmr_e2e.errors import XmrError

ALIASES = {"train": "train", "val": "val", "dev": "val", "valid": "val", "validation": "val", "test": "test"}


def canonical_split(name: str, where: str) -> str:
    """ "train", "val" or "test"; `where` (file and line) is for the error.

    Raises:
        XmrError: the name is none that is used for these.
    """
    try:
        return ALIASES[name.strip().lower()]
    except KeyError:
        raise XmrError(f"{where}: split {name!r} is none of {', '.join(ALIASES)}") from None


def draw_splits(class_of: Mapping[str, str], *, val: float, test: float, seed: int) -> dict[str, str]:
    """Assign each sample to a split, each class by itself, so that the splits hold the same mixture of classes.

    A class of n samples gives round(n * val) and round(n * test) to these splits, at least one each if n is 3 or more,
    and the rest to train. The result depends on the ids, the fractions and the seed, but not on the order of samples
    or on other classes.

    Args:
        class_of: sample id -> its class.
        val: fraction from 0 to 1; with 0 there is no such split.
        test: as `val`.

    Raises:
        XmrError: the fractions leave nothing to train on.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise XmrError(f"the fractions val {val} and test {test} must not be negative and must add to less than 1")
    members: dict[str, list[str]] = {}
    for source, name in class_of.items():
        members.setdefault(name, []).append(source)
    splits: dict[str, str] = {}
    for name, sources in members.items():
        order = sorted(sources)
        Random(f"{seed}/{name}").shuffle(order)
        held_out = _share(len(order), val)
        tested = _share(len(order), test)
        names = ["val"] * held_out + ["test"] * tested + ["train"] * (len(order) - held_out - tested)
        splits.update(zip(order, names))
    return splits


def _share(count: int, fraction: float) -> int:
    if fraction == 0 or count < 3:
        return 0
    return max(1, round(count * fraction))
