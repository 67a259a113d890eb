"""Regions that others computed, as their files hold them, and what the shards keep of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.features import UNKNOWN_CLASS, StoredRegions

MOST_REGIONS = 1000
"""of one picture"""
MOST_WIDTH = 2**16
"""of the features of one region"""
MOST_PIXELS = 10**6
"""of a picture's side"""
OUTSIDE = 1.0
"""pixels by which a box may reach beyond its picture, as rounding does; it is cut there"""

Unit = Literal["pixels", "fractions"]
Precision = Literal["float16", "float32"]


class RawRegions(NamedTuple):
    """The n regions of one picture as a file has them."""

    features: NDArray[np.floating[Any]]
    """(n, d)"""
    boxes: NDArray[np.floating[Any]] | None
    """(n, 4): x1, y1, x2, y2"""
    size: tuple[int, int] | None = None
    """width and height in pixels of the picture that the boxes lie in"""
    classes: NDArray[np.integer[Any]] | None = None
    """(n,): objects, from 0, without one for the background"""
    scores: NDArray[np.floating[Any]] | None = None
    """(n,): how certain the detector is of each"""


class RegionFile(ABC):
    """A file or folder with the regions of many pictures, of which one picture's are in memory at a time."""

    @abstractmethod
    def entries(self) -> Iterator[tuple[str, int]]:
        """Each picture's id, and the number by which it is read."""

    @abstractmethod
    def read(self, number: int) -> RawRegions:
        """One picture's regions, of agreeing shapes. Raises XmrError for what cannot be read."""

    @abstractmethod
    def where(self, number: int) -> str:
        """File and row, for errors."""

    @abstractmethod
    def describe(self) -> str:
        """The file by its name and its content, for the manifest; known once the entries have been gone through."""


def check_shapes(raw: RawRegions, where: str) -> RawRegions:
    """The same regions. Raises XmrError where the arrays are not of one number of regions, or of no possible size."""
    shape = raw.features.shape
    if len(shape) != 2 or not 0 < shape[0] <= MOST_REGIONS or not 0 < shape[1] <= MOST_WIDTH:
        raise XmrError(
            f"{where}: features of shape {shape}; wanted are (regions, width), at most {MOST_REGIONS} and {MOST_WIDTH}"
        )
    for name, array, wanted in (
        ("boxes", raw.boxes, (shape[0], 4)),
        ("objects", raw.classes, (shape[0],)),
        ("scores of the objects", raw.scores, (shape[0],)),
    ):
        if array is not None and array.shape != wanted:
            raise XmrError(f"{where}: {name} of shape {array.shape}; wanted is {wanted}, as there are features")
    if raw.size is not None and not all(0 < side <= MOST_PIXELS for side in raw.size):
        raise XmrError(f"{where}: a picture of {raw.size[0]} x {raw.size[1]} pixels")
    return raw


def to_stored(
    raw: RawRegions, size: tuple[int, int], where: str, *, count: int, repeat: bool, unit: Unit, precision: Precision
) -> StoredRegions:
    """The `count` regions that the shards keep of one picture, the most certain first where the file has scores, or
    else the first ones.

    size: width and height of the picture that the boxes lie in.
    repeat: fill up with the same regions again where there are fewer; an error otherwise.

    Classes are the file's plus 1, since 0 stands for the background; UNKNOWN_CLASS where the file has none.

    Raises:
        XmrError: too few regions, numbers that are not finite, boxes that lie outside of the picture, or corners in
            another order.
    """
    chosen = _choose(raw, where, count, repeat)
    boxes = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (count, 1))  # without boxes, the whole picture
    if raw.boxes is not None:
        boxes = _fractions(raw.boxes[chosen], size if unit == "pixels" else (1, 1), size, where)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    with np.errstate(over="ignore"):
        features = raw.features[chosen].astype(precision)
    if not np.isfinite(features).all():
        raise XmrError(f"{where}: features hold numbers that are not finite, or too large for {precision}")
    classes = np.full(count, UNKNOWN_CLASS, np.int64)
    if raw.classes is not None:
        classes = raw.classes[chosen].astype(np.int64) + 1
        if classes.min() < 1 or classes.max() > MOST_WIDTH:
            raise XmrError(f"{where}: objects beyond 0 and {MOST_WIDTH - 1}, such as {raw.classes[chosen].min()}")
    return StoredRegions(features, np.column_stack([boxes, area]).astype(np.float32), classes)


def _choose(raw: RawRegions, where: str, count: int, repeat: bool) -> NDArray[np.int64]:
    """The regions that are kept, by their numbers in the file."""
    found = len(raw.features)
    if found < count and not repeat:
        raise XmrError(
            f"{where}: {found} regions; wanted are {count}: choose a smaller --count, or --repeat to take the same "
            "ones again until there are enough"
        )
    order = np.arange(found)
    if raw.scores is not None:
        if not np.isfinite(raw.scores).all():
            raise XmrError(f"{where}: scores of the objects hold numbers that are not finite")
        order = np.argsort(-raw.scores, kind="stable")
    return np.resize(order, count)


def _fractions(
    boxes: NDArray[np.floating[Any]], sides: tuple[int, int], size: tuple[int, int], where: str
) -> NDArray[np.float64]:
    """Boxes in parts of the picture's sides, which are `sides` in the boxes' own unit and `size` in pixels."""
    if not np.isfinite(boxes).all():
        raise XmrError(f"{where}: boxes hold numbers that are not finite")
    scaled = boxes.astype(np.float64) / np.tile(sides, 2)
    tolerance = OUTSIDE / np.tile(size, 2)
    outside = ((scaled < -tolerance) | (scaled > 1 + tolerance)).any(axis=1)
    turned = (scaled[:, :2] > scaled[:, 2:]).any(axis=1)
    for wrong, what in (
        (outside, "outside of the picture"),
        (turned, "with corners in another order than x1 y1 x2 y2"),
    ):
        if wrong.any():
            box = ", ".join(f"{value:g}" for value in boxes[wrong.argmax()])
            raise XmrError(
                f"{where}: a box {what} of {sides[0]} x {sides[1]}: {box}; see whether the columns, --box-unit and "
                "--sizes are right"
            )
    return scaled.clip(0, 1)
