"""The class that a sample stands for where it is shown, and samples spread evenly over the classes."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

NO_CLASS = -1
"""of samples of data without labels"""


def one_hot(labels: Tensor) -> NDArray[np.float64]:
    """Labels, (n,) integer classes or (n, c) multi-hot, as (n, c) of 0 and 1."""
    array = labels.numpy(force=True)
    return array.astype(np.float64) if array.ndim == 2 else np.eye(int(array.max()) + 1)[array]


def rarest_label(labels: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) the class that each of n samples stands for, from (n, c) of 0 and 1: of its own ones, the rarest.

    The rarest says most: nearly every sample of some datasets has a "person". Without classes it is NO_CLASS.
    """
    if not labels.shape[1]:
        return np.full(len(labels), NO_CLASS)
    counts = labels.sum(0)
    return np.where(labels > 0, counts, np.inf).argmin(1)


def spread_over_classes(labels: NDArray[Any], count: int, rng: np.random.Generator) -> list[int]:
    """At most `count` rows of (n, c) labels: a random one that stands for each class, then a second one of each, …;
    without classes, random ones."""
    by_class: dict[int, list[int]] = defaultdict(list)
    classes = rarest_label(labels)
    for row in rng.permutation(len(labels)).tolist():
        by_class[int(classes[row])].append(row)
    turns = zip_longest(*by_class.values())
    return [row for turn in turns for row in turn if row is not None][:count]
