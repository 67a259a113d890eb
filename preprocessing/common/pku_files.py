"""The files of PKU's XMedia and XMediaNet: lists of raw images and texts, features as text, and MATLAB files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.common.layout import Layout
from preprocessing.common.published_text import read_any_encoding
from preprocessing.common.tables import numbered_lines
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import RawSample
from xmr_e2e.shards.manifest import Skipped

ORIGIN = (
    "Publisher: the Multimedia Information Processing Lab (MIPL) of Peking University, www.icst.pku.edu.cn/mipl, which "
    "gives it to those who send a signed application form; it may not be passed on"
)
LIST_FILES = (
    "img_train_list.txt, img_test_list.txt    (a line each: path within the folder, number of the class from 1)",
    "txt_train_list.txt, txt_test_list.txt    (the text of each of these images; without them, <image's name>.txt)",
    "the images and texts that they list",
    "{img,txt}_{train,test}_fea.txt           (not needed: published features, a line for each line of the list)",
)
PREFIXES = {"image": "img", "text": "txt"}
FOLDERS = {"image": ("", "image", "images", "img"), "text": ("", "text", "texts", "txt")}
"""folders within the raw folder where the paths of a list may begin"""
LIST_LINE = re.compile(r"(?P<path>[^\0]+?)\s+(?P<label>\d{1,9})")


@dataclass(frozen=True)
class Item:
    """One sample before it is known in which split it is."""

    source: str
    label: int
    """from 0"""
    image: Path | None = None
    text: str = ""
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    media: Mapping[str, Path] = field(default_factory=dict)
    """modality -> its raw file"""
    problem: str = ""
    """its defect, if any; it takes its place in a split all the same, so that mending it moves no other sample"""


@dataclass
class Selection:
    """The samples that go into the shards, and those that are skipped."""

    classes: Sequence[str]
    samples: list[RawSample] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, split: str, items: Iterable[Item]) -> None:
        for item in items:
            if item.problem:
                self.skipped.append(Skipped(item.source, split, item.problem))
                continue
            texts = (item.text,) if item.text else ()
            labels = (self.classes[item.label],)
            self.samples.append(RawSample(item.source, split, item.image, texts, labels, item.features, item.media))


@dataclass(frozen=True)
class Listed:
    """One line of a list."""

    path: str
    label: int
    """from 0"""
    where: str
    """list and line, for error messages"""


# ---- classes


def class_names(count: int, path: Path | None) -> list[str]:
    """The names in a text file, one a line in the order of the classes' numbers; without a file, "class 001" and so on.

    Raises:
        XmrError: not `count` different names.
    """
    if path is None:
        return [f"class {number:0{len(str(count))}d}" for number in range(1, count + 1)]
    names = [name for _, name in numbered_lines(path)]
    if len(names) != count or len(set(names)) != count:
        raise XmrError(f"{path}: {len(names)} class names, {len(set(names))} different ones; wanted are {count}, one a "
                       "line in the order of their numbers")  # fmt: skip
    return names


# ---- lists with raw files


def has_lists(raw: Path) -> bool:
    return all((raw / _list_name("image", part)).exists() for part in ("train", "test"))


def read_pairs(raw: Path, part: str, classes: int, layout: Layout, notes: list[str]) -> list[Item]:
    """The image-text pairs of one part ("train", "test"), in the order of its lists.

    Raises:
        XmrError: malformed lines, lists or features that do not belong together, or neither files nor features.
    """
    images = read_list(raw / _list_name("image", part), classes)
    texts = _listed_texts(raw, part, images, classes)
    features = {modality: read_features(raw, modality, part, len(images)) for modality in PREFIXES}
    folders = {
        modality: _find_folder(raw, modality, part, listed, features[modality] is not None, notes, layout)
        for modality, listed in (("image", images), ("text", texts))
    }
    items = []
    for row, (image, text) in enumerate(zip(images, texts)):
        rows = {modality: array[row] for modality, array in features.items() if array is not None}
        picture = folders["image"] / image.path if folders["image"] else None
        item = Item(image.path, image.label, picture, features=rows)
        items.append(_with_text(item, folders["text"] / text.path) if folders["text"] else item)
    return items


def _with_text(item: Item, path: Path) -> Item:
    try:
        text = read_any_encoding(path).strip()
    except XmrError as error:
        return replace(item, problem=str(error))
    return replace(item, text=text) if text else replace(item, problem=f"{path} is empty")


def _list_name(modality: str, part: str) -> str:
    return f"{PREFIXES[modality]}_{part}_list.txt"


def read_list(path: Path, classes: int) -> list[Listed]:
    """The lines of a list: a path and the number of a class, from 1.

    Raises:
        XmrError: a line of another form, a class that does not exist, or a path that leads out of the folder, with
            file and line; or a list without lines.
    """
    listed = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        match = LIST_LINE.fullmatch(line)
        path_within = PurePosixPath(match["path"].replace("\\", "/")) if match else PurePosixPath()
        if match is None or not path_within.name:
            raise XmrError(f"{where}: wanted are a path and the number of a class, not {line!r}")
        if not 1 <= int(match["label"]) <= classes:
            raise XmrError(f"{where}: there is no class {match['label']}; they are numbered from 1 to {classes}")
        if path_within.is_absolute() or ".." in path_within.parts:
            raise XmrError(f"{where}: {match['path']!r} leads out of the folder; wanted is a path within it")
        listed.append(Listed(str(path_within), int(match["label"]) - 1, where))
    if not listed:
        raise XmrError(f"{path} is empty; wanted is a line for each sample")
    return listed


def _listed_texts(raw: Path, part: str, images: Sequence[Listed], classes: int) -> list[Listed]:
    """The texts of the images, from their own list, or else beside the images."""
    path = raw / _list_name("text", part)
    if not path.exists():
        return [Listed(str(PurePosixPath(i.path).with_suffix(".txt")), i.label, i.where) for i in images]
    texts = read_list(path, classes)
    if len(texts) != len(images):
        raise XmrError(f"{path} lists {len(texts)} texts, {_list_name('image', part)} {len(images)} images; they are "
                       "pairs, line by line")  # fmt: skip
    for image, text in zip(images, texts):
        if image.label != text.label:
            raise XmrError(f"{image.where}: class {image.label + 1}, but {text.where}: class {text.label + 1}; the "
                           "lists are pairs, line by line")  # fmt: skip
    return texts


def _find_folder(
    raw: Path, modality: str, part: str, listed: Sequence[Listed], has_features: bool, notes: list[str], layout: Layout
) -> Path | None:
    """The folder where the paths of a list begin; None if none of the files are there, but their features are."""
    folder = find_files(raw, FOLDERS[modality], listed)
    if folder:
        return folder
    problem = f"{raw}: none of the {len(listed)} {modality}s of the split {part!r} is there, such as {listed[0].path}"
    if not has_features:
        raise layout.error(problem)
    notes.append(f"{problem}: only their features")
    return None


def find_files(raw: Path, folders: Sequence[str], listed: Sequence[Listed]) -> Path | None:
    """The first of these folders within `raw` in which a listed file lies; None if none is there."""
    found = (raw / name for name in folders if any((raw / name / item.path).is_file() for item in listed))
    return next(found, None)


def read_features(raw: Path, modality: str, part: str, rows: int) -> NDArray[np.float32] | None:
    """The published features of a list's samples (rows, d), None where there are none.

    Raises:
        XmrError: not a table of numbers, or another number of lines.
    """
    path = raw / f"{PREFIXES[modality]}_{part}_fea.txt"
    if not path.exists():
        return None
    try:
        features: NDArray[np.float32] = np.loadtxt(path, np.float32, ndmin=2)
    except ValueError as error:  # bytes that are not UTF-8, too
        raise XmrError(f"{path}: not a table of numbers: {error}") from error
    if len(features) != rows:
        raise XmrError(f"{path}: {len(features)} lines; {_list_name(modality, part)} has {rows}")
    return features


# ---- MATLAB files


class MatFile:
    """The arrays of a MATLAB file, up to version 7."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            XmrError: not such a file.
        """
        from scipy.io import loadmat

        self.path = path
        try:
            self._arrays: dict[str, Any] = loadmat(path)
        except NotImplementedError as error:
            raise XmrError(
                f"{path}: a MATLAB file of version 7.3, which is not read here; in MATLAB, load it and save it with -v7"
            ) from error
        except Exception as error:  # of any kind: scipy raises what the damaged bytes lead to
            raise XmrError(f"{path}: not a MATLAB file that can be read: {error}") from error

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def get(self, key: str) -> Any:
        """Raises XmrError if there is no such key."""
        if key not in self._arrays:
            present = ", ".join(sorted(name for name in self._arrays if not name.startswith("__")))
            raise XmrError(f"{self.path}: {key} is missing; it holds {present or 'nothing'}")
        return self._arrays[key]

    def rows(self, key: str, value: Any = None) -> NDArray[np.float32]:
        """(n, d): features. `value` is what the key holds, where it lies deeper in the file.

        Raises:
            XmrError: not a matrix of numbers.
        """
        value = self.get(key) if value is None else value
        if np.prod(np.shape(value), dtype=float) > 2**31:  # of a sparse one, what it says costs nothing
            raise XmrError(f"{self.path}: {key}: an array of shape {np.shape(value)}; that is too large for features")
        dense = value.toarray() if hasattr(value, "toarray") else np.asarray(value)  # bags of words may be sparse
        if dense.ndim != 2 or not dense.size or dense.dtype.kind not in "fiub":
            raise XmrError(f"{self.path}: {key}: an array of {dense.dtype} and shape {dense.shape}; wanted are "
                           "features, a row for each sample")  # fmt: skip
        return np.ascontiguousarray(dense, np.float32)

    def numbers(self, key: str, value: Any = None) -> NDArray[np.int64]:
        """(n,): whole numbers, from a row or a column.

        Raises:
            XmrError: something else.
        """
        array = np.asarray(self.get(key) if value is None else value)
        is_vector = array.ndim <= 2 and array.size and array.size == max(array.shape, default=0)
        if not is_vector or array.dtype.kind not in "fiub" or not np.array_equal(array, np.floor(array)):
            raise XmrError(f"{self.path}: {key}: an array of {array.dtype} and shape {array.shape}; wanted are the "
                           "numbers of the classes, one for each sample")  # fmt: skip
        return array.ravel().astype(np.int64)


@dataclass(frozen=True)
class Table:
    """The features of one modality in one part of the publisher's split."""

    modality: str
    key: str
    features: NDArray[np.float32]
    """(n, d)"""
    labels: NDArray[np.int64]
    """(n,), from 0"""


def checked_tables(mat: MatFile, tables: Sequence[Table], label_keys: Sequence[str], classes: int) -> list[Table]:
    """The tables with their labels counted from 0. A file in which no label is 0 counts from 1.

    Raises:
        XmrError: other numbers of rows than of labels, or labels that are no class; names the keys.
    """
    first = 0 if any((table.labels == 0).any() for table in tables) else 1
    for table, key in zip(tables, label_keys):
        if len(table.features) != len(table.labels):
            raise XmrError(f"{mat.path}: {table.key} has {len(table.features)} rows, {key} {len(table.labels)} labels")
        wrong = table.labels[(table.labels < first) | (table.labels >= first + classes)]
        if len(wrong):
            raise XmrError(f"{mat.path}: {key}: there is no class {wrong[0]}; they are numbered from {first} to "
                           f"{first + classes - 1}")  # fmt: skip
    return [Table(table.modality, table.key, table.features, table.labels - first) for table in tables]


def odd_widths(tables: Iterable[Table], published: Mapping[str, int]) -> list[str]:
    """Notes on features of other widths than those in the papers."""
    return [
        f"{table.key}: {table.features.shape[1]} {table.modality} features per sample, not {published[table.modality]}"
        for table in tables
        if table.features.shape[1] != published[table.modality]
    ]


def items_of_table(table: Table, part: str) -> Iterator[Item]:
    """A sample for each row, with nothing but these features."""
    for row, label in enumerate(table.labels.tolist()):
        yield Item(f"{table.modality}/{part}/{row + 1:05d}", label, features={table.modality: table.features[row]})


def items_of_pair(image: Table, text: Table, part: str, path: Path) -> Iterator[Item]:
    """A sample for each row of both tables: images and texts are pairs.

    Raises:
        XmrError: they have other labels.
    """
    if not np.array_equal(image.labels, text.labels):
        raise XmrError(f"{path}: {image.key} and {text.key} have not the same labels; they are pairs, row by row")
    for row, label in enumerate(image.labels.tolist()):
        features = {"image": image.features[row], "text": text.features[row]}
        yield Item(f"image-text/{part}/{row + 1:05d}", label, features=features)
