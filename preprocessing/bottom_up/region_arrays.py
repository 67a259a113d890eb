"""Regions in numpy's files: one array of all pictures with a list of their ids, or a folder with a file a picture.

Nothing is unpickled. A .npz is unpacked here, within bounds: numpy would take the room that a header asks for.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from preprocessing.bottom_up.region_files import MOST_PIXELS, RawRegions, RegionFile, check_shapes
from preprocessing.common.tables import numbered_lines
from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of
from xmr_e2e.received import first_line

PICTURE_BYTES = 2**28
"""of one picture's arrays, unpacked, at most"""
FEATURES = ("features", "feature", "feat", "feats", "x", "att_feats")
BOXES = ("boxes", "bbox", "bboxes", "norm_bb")
WIDTH, HEIGHT = ("image_w", "img_w", "width"), ("image_h", "img_h", "height")
OBJECTS, SCORES = ("objects", "objects_id"), ("objects_conf",)
_KINDS = {"features": "f", "boxes": "fiu", "sizes": "iu"}


class ArrayRegions(RegionFile):
    """All pictures' regions in one .npy (images, regions, width), as SCAN and those after it have them.

    ids: a file with an id a line, in the order of the array. Where the array has a picture once and the list has it
        once for each of its texts, or both do, the picture is taken once.
    boxes: .npy (images, regions, 4). sizes: .npy (images, 2), width and height in pixels.
    """

    def __init__(
        self, path: Path, ids: Path | None = None, boxes: Path | None = None, sizes: Path | None = None
    ) -> None:
        self.path = path
        self._ids_path = ids or _beside(path, "ids.txt") or path.with_name(f"{_stem(path)}_ids.txt")
        self._features = load_npy(path, "features")
        if self._features.ndim != 3:
            raise XmrError(f"{path}: an array of shape {self._features.shape}; wanted is (images, regions, width)")
        boxes = boxes or _beside(path, "boxes.npy") or _beside(path, "ims_bbx.npy")
        sizes = sizes or _beside(path, "sizes.npy")
        self._boxes = self._belonging(boxes, "boxes", (*self._features.shape[:2], 4))
        self._sizes = self._belonging(sizes, "sizes", (len(self._features), 2))
        self._files = [path, self._ids_path, *filter(None, (boxes, sizes))]

    def _belonging(self, path: Path | None, what: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        array = None if path is None else load_npy(path, what)
        if array is not None and array.shape != shape:
            raise XmrError(f"{path}: {what} of shape {array.shape}; wanted is {shape}, as {self.path} has features")
        return array

    def describe(self) -> str:
        parts = [f"{path.name} (sha256 {sha256_of(path)[:16]})" for path in self._files]
        return " with ".join(parts)

    def where(self, number: int) -> str:
        return f"{self.path}, row {number}"

    def entries(self) -> Iterator[tuple[str, int]]:
        if not self._ids_path.is_file():
            raise XmrError(f"{self._ids_path}: there is no list of the ids of {self.path}; name it with --ids")
        ids = [line for _, line in numbered_lines(self._ids_path)]
        times, rest = divmod(len(ids), len(self._features)) if len(self._features) else (0, 1)
        groups = [set(ids[start : start + times]) for start in range(0, len(ids), times or 1)]
        if rest or not times or max(map(len, groups)) > 1:
            raise XmrError(f"{self._ids_path}: {len(ids):,} ids for the {len(self._features):,} rows of {self.path}")
        for number, name in enumerate(ids[::times]):
            yield name, number

    def read(self, number: int) -> RawRegions:
        size = None if self._sizes is None else (int(self._sizes[number][0]), int(self._sizes[number][1]))
        boxes = None if self._boxes is None else np.asarray(self._boxes[number])
        return check_shapes(RawRegions(np.asarray(self._features[number]), boxes, size), self.where(number))


class FolderRegions(RegionFile):
    """A folder with `ID.npz` (features or x, boxes or bbox, image_w, image_h, objects) or `ID.npy` for each picture.

    boxes: a folder with `ID.npy` (regions, 4) for each of them, where they do not lie in the same file.
    """

    def __init__(self, folder: Path, boxes: Path | None = None) -> None:
        self.folder, self._boxes = folder, boxes
        self._paths = sorted(path for path in folder.iterdir() if path.suffix in (".npz", ".npy"))
        if not self._paths:
            raise XmrError(
                f"{folder}: no .npz and no .npy; wanted is one of them for each picture, called after its id"
            )

    def describe(self) -> str:
        listing = hashlib.sha256("".join(f"{path.name} {path.stat().st_size}\n" for path in self._paths).encode())
        return f"{len(self._paths):,} files of {self.folder.name} (names and sizes {listing.hexdigest()[:16]})"

    def where(self, number: int) -> str:
        return str(self._paths[number])

    def entries(self) -> Iterator[tuple[str, int]]:
        yield from ((path.stem, number) for number, path in enumerate(self._paths))

    def read(self, number: int) -> RawRegions:
        path = self._paths[number]
        if path.suffix == ".npy":
            return check_shapes(RawRegions(load_npy(path, "features"), self._boxes_of(path)), str(path))
        arrays = read_npz(path)
        features = _one_of(arrays, FEATURES, path)
        if features is None:
            raise XmrError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; wanted is {' or '.join(FEATURES)}")
        boxes = _one_of(arrays, BOXES, path) if self._boxes is None else self._boxes_of(path)
        if boxes is not None and boxes.ndim == features.ndim == 2 and len(boxes) == features.shape[1] != len(features):
            features = features.T  # as OpenVQA has them, (width, regions)
        sides = [_one_of(arrays, names, path) for names in (WIDTH, HEIGHT)]
        size = None if any(side is None for side in sides) else _sides(sides, path)
        classes = _one_of(arrays, OBJECTS, path)
        raw = RawRegions(features, boxes, size, classes, _one_of(arrays, SCORES, path))
        for what, array, kinds in (("features", features, "f"), ("boxes", boxes, "fiu"), ("objects", classes, "iu")):
            if array is not None and array.dtype.kind not in kinds:
                raise XmrError(f"{path}: {what} are {array.dtype}, not numbers of a usable kind")
        return check_shapes(raw, str(path))

    def _boxes_of(self, path: Path) -> NDArray[Any] | None:
        if self._boxes is None:
            return None
        own = self._boxes / f"{path.stem}.npy"
        if not own.is_file():
            raise XmrError(f"{own}: there are no boxes for {path}")
        return load_npy(own, "boxes")


def load_npy(path: Path, what: str) -> NDArray[Any]:
    """The array of a .npy, mapped: read where it is looked at.

    what: "features", "boxes" or "sizes".

    Raises:
        XmrError: not such a file, cut, or with Python objects or numbers of another kind.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of damaged headers, nearly any
        objects = "Python objects" in str(error) or "allow_pickle" in str(error)
        hint = "; it holds Python objects, which can run code: save it as an array of numbers" if objects else ""
        raise XmrError(f"{path}: no .npy that can be read: {first_line(error)}{hint}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in _KINDS[what]:
        raise XmrError(f"{path}: {what} are {getattr(array, 'dtype', 'a .npz')}, not numbers of a usable kind")
    return array


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a small .npz by their names; those of Python objects are left out.

    Raises:
        XmrError: not such a file, damaged, or with more than PICTURE_BYTES.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > PICTURE_BYTES:
                raise XmrError(f"{path}: more than {PICTURE_BYTES:,} bytes for one picture")
            arrays = {}
            for info in members:
                with archive.open(info) as stream:
                    array = _read_array(stream, info.file_size)
                if array is not None:
                    arrays[info.filename.removesuffix(".npy")] = array
            return arrays
    except XmrError:
        raise
    except Exception as error:  # of damaged archives, nearly any
        raise XmrError(f"{path}: no .npz that can be read: {first_line(error)}") from error


def _read_array(stream: IO[bytes], most: int) -> NDArray[Any] | None:
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, column_major, kind = read_header(stream)
    if kind.hasobject:
        return None
    size = kind.itemsize
    for side in shape:
        size *= side
    if not 0 <= size <= most:
        raise ValueError(f"an array of shape {shape} in {most:,} bytes")
    data = stream.read(size)
    return np.frombuffer(data, kind).reshape(shape, order="F" if column_major else "C")


def _one_of(arrays: Mapping[str, NDArray[Any]], names: tuple[str, ...], path: Path) -> NDArray[Any] | None:
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise XmrError(f"{path}: holds {' and '.join(found)}, of which one is wanted")
    return arrays[found[0]] if found else None


def _sides(sides: list[Any], path: Path) -> tuple[int, int]:
    if any(side.size != 1 or side.dtype.kind not in "iuf" or not 0 < side.item() <= MOST_PIXELS for side in sides):
        raise XmrError(f"{path}: image_w and image_h must be numbers of pixels")
    return int(sides[0].item()), int(sides[1].item())


def _stem(path: Path) -> str:
    """The part of the name that a split's files share: train of train_ims.npy."""
    return path.stem.removesuffix("_ims")


def _beside(path: Path, ending: str) -> Path | None:
    found = path.with_name(f"{_stem(path)}_{ending}")
    return found if found.is_file() and found != path else None
