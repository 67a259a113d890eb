"""The members that hold features: one vector of a modality as its publisher gives it, or a detector's regions.

Both are safetensors files: arrays only, nothing executable, and the same arrays give the same bytes.

    <modality>.safetensors    "features" (d,) float32
    regions.safetensors       "features" (r, d) float16 or float32, "boxes" (r, 5) float32, "classes" (r,) int64

A box is x1, y1, x2, y2 as shares of the picture's width and height, then the box's share of the picture's area.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xmr_e2e.received import shortened
from xmr_e2e.shards.schema import FEATURE_MEMBERS, REGIONS_MEMBER

UNKNOWN_CLASS = -1
"""class of each region of a picture where only the boxes are known"""
NAME_OF_MEMBER = {member: name for name, member in FEATURE_MEMBERS.items()} | {REGIONS_MEMBER: "regions"}
"""extension of a member with features -> its name in the manifest's `widths`"""


class UnusableFeatures(Exception):
    """Features that cannot be read, and why. Whoever knows shard and key adds them."""


class StoredRegions(NamedTuple):
    """The r regions of one picture."""

    features: NDArray[np.floating[Any]]
    """(r, d) float16 or float32, as stored"""
    boxes: NDArray[np.float32]
    """(r, 5): x1, y1, x2, y2 as shares of the picture's width and height, and the box's share of its area"""
    classes: NDArray[np.int64]
    """(r,): the detector's class ids, of which 0 is its background; UNKNOWN_CLASS throughout where none is known"""


def encode_features(features: NDArray[np.floating[Any]]) -> bytes:
    """The member's bytes for one vector (d,), kept as float32.

    Raises:
        UnusableFeatures: not one vector of finite numbers.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        vector = np.ascontiguousarray(features, np.float32)
    _check_vector(vector)
    return save({"features": vector})


def decode_features(data: bytes) -> NDArray[np.float32]:
    """The vector (d,) of a features member.

    Raises:
        UnusableFeatures: not a safetensors file with one finite float32 vector.
    """
    arrays = _load(data, ("features",))
    _check_vector(arrays["features"])
    return arrays["features"]


def encode_regions(regions: StoredRegions) -> bytes:
    """The member's bytes for the regions of one picture.

    Raises:
        UnusableFeatures: as `decode_regions`.
    """
    _check_regions(regions)
    return save({name: np.ascontiguousarray(array) for name, array in regions._asdict().items()})


def decode_regions(data: bytes) -> StoredRegions:
    """The regions of a regions member.

    Raises:
        UnusableFeatures: not a safetensors file with these arrays, shapes that do not agree, other types of numbers,
            or numbers that are not finite.
    """
    regions = StoredRegions(**_load(data, StoredRegions._fields))
    _check_regions(regions)
    return regions


def shape_of_features(member: str, data: bytes) -> tuple[int, ...]:
    """(d,), or (r, d) for regions: the shape of what a member with this extension holds, once it is found usable.

    Raises:
        UnusableFeatures: it is not.
    """
    return decode_regions(data).features.shape if member == REGIONS_MEMBER else decode_features(data).shape


def _load(data: bytes, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    # KeyError and AttributeError: types that numpy lacks; OverflowError: shapes
    except (SafetensorError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise UnusableFeatures(f"not a safetensors file that can be read: {error}") from error
    if set(arrays) != set(names):
        found = shortened(", ".join(sorted(arrays)) or "nothing", quoted=False)
        raise UnusableFeatures(f"holds {found} instead of {', '.join(names)}")
    return arrays


def _check_vector(features: NDArray[Any]) -> None:
    if features.ndim != 1 or not features.size:
        raise UnusableFeatures(f"features of shape {features.shape}; wanted is one vector")
    _check_numbers("features", features, "float32")


def _check_regions(regions: StoredRegions) -> None:
    shape = regions.features.shape
    if len(shape) != 2 or not regions.features.size:
        raise UnusableFeatures(f"features of shape {shape}; wanted are some regions' (regions, width)")
    count = len(regions.features)
    if regions.boxes.shape != (count, 5) or regions.classes.shape != (count,):
        raise UnusableFeatures(
            f"{count} regions, but boxes of shape {regions.boxes.shape} and classes of shape {regions.classes.shape}; "
            f"wanted are {(count, 5)} and {(count,)}"
        )
    _check_numbers("features", regions.features, "float16", "float32")
    _check_numbers("boxes", regions.boxes, "float32")
    _check_numbers("classes", regions.classes, "int64")
    if (regions.classes < 0).any() and not (regions.classes == UNKNOWN_CLASS).all():
        raise UnusableFeatures(f"classes hold negative numbers; wanted are class ids, or {UNKNOWN_CLASS} throughout")


def _check_numbers(name: str, array: NDArray[Any], *types: str) -> None:
    if array.dtype.name not in types:
        raise UnusableFeatures(f"{name} are {array.dtype.name}; wanted is {' or '.join(types)}")
    if not np.isfinite(array).all():
        raise UnusableFeatures(f"{name} hold numbers that are not finite")
