"""The files in which MSCOCO 2014 is published: instances, captions, and Karpathy's splits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from preprocessing.common.json_files import Pairs, entries, read_object, value_of
from preprocessing.common.karpathy import Entry, read_karpathy
from preprocessing.common.layout import Layout
from xmr_e2e.errors import XmrError

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

FOLDERS = ("train2014", "val2014")
SPLITS = "dataset_coco.json"
LAYOUT = Layout(
    "MSCOCO 2014",
    (
        "{train,val}2014/COCO_{train,val}2014_<12-digit id>.jpg",
        "annotations/instances_{train,val}2014.json",
        f"annotations/captions_{{train,val}}2014.json   (without them, the captions in {SPLITS} are taken)",
        f"{SPLITS}   (Karpathy's splits)",
    ),
    "Publisher: cocodataset.org/#download (2014 Train images, 2014 Val images, 2014 Train/Val annotations); "
    f"{SPLITS} is in caption_datasets.zip at cs.stanford.edu/people/karpathy/deepimagesent.",
)


@dataclass(frozen=True)
class CocoImage:
    """One image of Karpathy's file. name: its path within the raw folder. split: "train", "restval", "val", "test".

    labels: empty without annotated objects; None if the instances files do not have the image.
    """

    name: str
    split: str
    captions: tuple[str, ...]
    labels: tuple[str, ...] | None


@dataclass(frozen=True)
class Published:
    """The content of the publisher's files. images: in Karpathy's order. classes: by category id."""

    classes: tuple[str, ...]
    images: tuple[CocoImage, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Instances:
    """classes: category id -> name. labels: image id -> ids of the categories of its objects, crowds included."""

    classes: dict[int, str]
    labels: dict[int, set[int]]


def read_published(raw: Path) -> Published:
    """Read splits, captions and labels.

    Raises:
        XmrError: a file is missing, or an entry is malformed; names file and entry.
    """
    LAYOUT.require_folder(raw)
    _require_parts(raw)
    entries_of_splits = {_image_id(entry): entry for entry in _read_splits(raw / SPLITS)}
    instances = _all_instances(raw)
    captions, notes = _all_captions(raw, entries_of_splits)
    without_split = len((instances.labels.keys() | captions.keys()) - entries_of_splits.keys())
    if without_split:
        notes.append(f"{without_split} images are not in {SPLITS}, not used")
    names = dict(sorted(instances.classes.items()))
    images = []
    for image_id, entry in entries_of_splits.items():
        found = instances.labels.get(image_id)
        labels = None if found is None else tuple(name for number, name in names.items() if number in found)
        name = f"{entry.fields['filepath']}/{entry.filename}"
        images.append(CocoImage(name, entry.split, captions.get(image_id, ()), labels))
    return Published(tuple(names.values()), tuple(images), tuple(notes))


def _require_parts(raw: Path) -> None:
    """All at once, and before minutes of reading."""
    parts = [*FOLDERS, *(f"annotations/instances_{folder}.json" for folder in FOLDERS), SPLITS]
    missing = [part for part in parts if not (raw / part).exists()]
    if missing:
        raise LAYOUT.error(f"{raw} lacks {', '.join(missing)}")


def _read_splits(path: Path) -> list[Entry]:
    _log_reading(path)
    return read_karpathy(path)


def _image_id(entry: Entry) -> int:
    """The image's id at the publisher, once folder and file name are found to agree with it."""
    image_id = value_of(entry.fields, "cocoid", int, entry.where)
    folder = value_of(entry.fields, "filepath", str, entry.where)
    if folder not in FOLDERS:
        raise XmrError(f"{entry.where}: filepath {folder!r} is none of {', '.join(FOLDERS)}")
    expected = f"COCO_{folder}_{image_id:012d}.jpg"
    if entry.filename != expected:
        raise XmrError(f"{entry.where}: filename {entry.filename!r} does not fit the cocoid: {expected!r} would")
    return image_id


def _all_instances(raw: Path) -> Instances:
    """Both files together."""
    classes: dict[int, str] = {}
    labels: dict[int, set[int]] = {}
    for folder in FOLDERS:
        path = raw / "annotations" / f"instances_{folder}.json"
        part = read_instances(path)
        if classes and part.classes != classes:
            raise XmrError(f"{path}: its categories differ from those of instances_{FOLDERS[0]}.json")
        classes = part.classes
        _merge(labels, part.labels, path)
    return Instances(classes, labels)


def read_instances(path: Path) -> Instances:
    """Read one instances_*.json.

    Raises:
        XmrError: not JSON, an entry is malformed, an id is given twice, or an annotation names an unknown image or
            category.
    """
    _log_reading(path)
    document = read_object(path, _without_outlines)
    classes: dict[int, str] = {}
    for where, entry in entries(document, "categories", path):
        _add_once(classes, value_of(entry, "id", int, where), value_of(entry, "name", str, where), where)
    if len(set(classes.values())) < len(classes):
        raise XmrError(f"{path}: two categories have the same name")
    labels = _images(document, path, set[int])
    seen: dict[int, None] = {}
    for where, entry in entries(document, "annotations", path):
        _add_once(seen, value_of(entry, "id", int, where), None, where)
        category = value_of(entry, "category_id", int, where)
        if category not in classes:
            raise XmrError(f"{where}: category_id {category} is none of the file's categories")
        _of_image(labels, entry, where).add(category)
    return Instances(classes, labels)


def _all_captions(raw: Path, splits: Mapping[int, Entry]) -> tuple[dict[int, tuple[str, ...]], list[str]]:
    """Image id -> captions, from the publisher's files or, where one is missing, from Karpathy's."""
    paths = [raw / "annotations" / f"captions_{folder}.json" for folder in FOLDERS]
    missing = [path for path in paths if not path.exists()]
    captions: dict[int, tuple[str, ...]] = {}
    if not missing:
        for path in paths:
            _merge(captions, read_captions(path), path)
        return captions, []
    captions = {image_id: entry.captions for image_id, entry in splits.items() if entry.captions}
    if not captions:
        raise LAYOUT.error(f"{missing[0]} does not exist, and {SPLITS} holds no sentences")
    return captions, [f"captions are those of {SPLITS}: there is no {' and no '.join(path.name for path in missing)}"]


def read_captions(path: Path) -> dict[int, tuple[str, ...]]:
    """Image id -> its captions in the order of one captions_*.json; images without any are left out.

    Raises:
        XmrError: not JSON, an entry is malformed, an id is given twice, or a caption is of an unknown image.
    """
    _log_reading(path)
    document = read_object(path)
    captions = _images(document, path, list[str])
    seen: dict[int, None] = {}
    for where, entry in entries(document, "annotations", path):
        _add_once(seen, value_of(entry, "id", int, where), None, where)
        _of_image(captions, entry, where).append(value_of(entry, "caption", str, where))
    return {image_id: tuple(texts) for image_id, texts in captions.items() if texts}


def _images(document: dict[str, Any], path: Path, empty: Callable[[], Value]) -> dict[int, Value]:
    """Image id -> an empty collection, for each image that the file lists."""
    found: dict[int, Value] = {}
    for where, entry in entries(document, "images", path):
        _add_once(found, value_of(entry, "id", int, where), empty(), where)
    return found


def _of_image(table: Mapping[int, Value], entry: dict[str, Any], where: str) -> Value:
    image_id = value_of(entry, "image_id", int, where)
    if image_id not in table:
        raise XmrError(f"{where}: image_id {image_id} is none of the file's images")
    return table[image_id]


def _add_once(table: dict[int, Value], number: int, value: Value, where: str) -> None:
    if number in table:
        raise XmrError(f"{where}: the id {number} is given twice")
    table[number] = value


def _merge(table: dict[int, Value], part: Mapping[int, Value], path: Path) -> None:
    twice = table.keys() & part.keys()
    if twice:
        raise XmrError(f"{path}: image {min(twice)} is in the file of {FOLDERS[0]} too")
    table.update(part)


def _without_outlines(pairs: Pairs) -> dict[str, Any]:
    # The outlines of objects are nearly all of 400 MB; let go of them while reading, they take no memory.
    return {name: value for name, value in pairs if name != "segmentation"}


def _log_reading(path: Path) -> None:
    logger.info("reading %s (%.0f MB)", path, path.stat().st_size / 1e6)
