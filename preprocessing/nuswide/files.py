"""The files in which NUS-WIDE is published: image lists, ground truth and tags, all in the order of Imagelist.txt.

Groundtruth/TrainTestLabels is not read: it repeats AllLabels in two parts, and the publisher's Labels_lake_Train.txt
holds -1130179 on a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from preprocessing.common.layout import Layout
from preprocessing.common.published_text import RAW_TEXT_BYTES
from preprocessing.common.tables import numbered_lines
from preprocessing.common.tags import tag_lines
from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes, shortened

LAYOUT = Layout(
    "NUS-WIDE",
    (
        "Flickr/<folder>/<name>.jpg    the photographs, in 704 folders",
        "ImageList/                    Imagelist.txt, TrainImagelist.txt, TestImagelist.txt",
        "ConceptsList/Concepts81.txt",
        "Groundtruth/AllLabels/        Labels_<concept>.txt, 81 files",
        "NUS_WID_Tags/                 All_Tags.txt; for --tags 1k AllTags1k.txt and TagList1k.txt",
    ),
    "Publisher: lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html. Lists, ground truth and "
    "tags are free to download. For the photographs, sign its Agreement and Disclaimer Form and send it to the "
    "address on that page: the link comes by mail.",
)
Tags = Literal["all", "1k"]
TAG_FILES = {"all": "All_Tags.txt", "1k": "AllTags1k.txt"}
OFFICIAL_LISTS = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}


@dataclass(frozen=True)
class Published:
    """The content of the publisher's files on n images and c concepts.

    images: `<folder>/<name>.jpg` below `folder`. labels: (n, c). texts: the tags of each image, parted by spaces; ""
    where it has none.
    """

    folder: Path
    images: tuple[str, ...]
    concepts: tuple[str, ...]
    labels: NDArray[np.bool_]
    texts: tuple[str, ...]


def read_published(raw: Path, tags: Tags) -> Published:
    """Read image list, ground truth and tags.

    Raises:
        XmrError: a file is missing, one does not fit the image list, or an entry is none that can be there.
    """
    LAYOUT.require_folder(raw)
    if not (raw / "Flickr").is_dir():
        raise LAYOUT.error(f"{raw} holds no folder Flickr")
    images = _read_images(raw / "ImageList/Imagelist.txt")
    concepts = tuple(line for _, line in numbered_lines(_require(raw / "ConceptsList/Concepts81.txt")))
    labels = _read_labels(raw / "Groundtruth/AllLabels", concepts, len(images))
    path = _require(raw / "NUS_WID_Tags" / TAG_FILES[tags])
    texts = _read_all_tags(path, images) if tags == "all" else _read_1k_tags(path, len(images))
    if not any(texts):
        raise XmrError(f"{path}: no image has a tag")
    return Published(raw / "Flickr", images, concepts, labels, texts)


def read_official(raw: Path, images: Sequence[str]) -> dict[str, str]:
    """Image -> "train" or "test", as the publisher has it.

    Raises:
        XmrError: a list is missing, or names an image twice or one that Imagelist.txt lacks.
    """
    known = set(images)
    splits: dict[str, str] = {}
    for split, name in OFFICIAL_LISTS.items():
        path = raw / "ImageList" / name
        for number, image in _image_lines(path):
            if image not in known:
                raise XmrError(f"{path}, line {number}: {image} is not in Imagelist.txt")
            if image in splits:
                raise XmrError(f"{path}, line {number}: {image} is already in {OFFICIAL_LISTS[splits[image]]}")
            splits[image] = split
    return splits


def _require(path: Path) -> Path:
    if not path.exists():
        raise LAYOUT.error(f"{path} does not exist")
    return path


def _image_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in numbered_lines(_require(path)):
        image = line.replace("\\", "/")
        if image.count("/") != 1:
            raise XmrError(f"{path}, line {number}: {line!r} has not the form <folder>\\<name>.jpg")
        yield number, image


def _read_images(path: Path) -> tuple[str, ...]:
    lines: dict[str, int] = {}
    for number, image in _image_lines(path):
        if image in lines:
            raise XmrError(f"{path}, line {number}: duplicate image {image}, already on line {lines[image]}")
        lines[image] = number
    if not lines:
        raise XmrError(f"{path} names no image")
    return tuple(lines)


def _read_labels(folder: Path, concepts: Sequence[str], images: int) -> NDArray[np.bool_]:
    """(images, concepts)."""
    paths = [_require(folder / f"Labels_{concept}.txt") for concept in concepts]
    unknown = sorted(set(folder.glob("Labels_*.txt")) - set(paths))
    if unknown:
        raise XmrError(f"{unknown[0]}: its concept is not in Concepts81.txt")
    labels = np.empty((images, len(paths)), bool)
    for column, path in enumerate(track(paths, "reading ground truth", console=console, transient=True)):
        labels[:, column] = _read_label(path, images)
    return labels


def _read_label(path: Path, images: int) -> NDArray[np.bool_]:
    """(images,): whether the concept is in each."""
    words = read_bytes(path, most=RAW_TEXT_BYTES).split()
    if len(words) != images:
        raise XmrError(f"{path} has {len(words)} values for the {images} images of Imagelist.txt")
    if not {b"0", b"1"}.issuperset(words):  # before an array is made, in which each value is as long as the longest
        line = next(line for line, word in enumerate(words, start=1) if word not in (b"0", b"1"))
        raise XmrError(f"{path}, line {line}: {shortened(words[line - 1].decode(errors='replace'))} is neither 0 nor 1")
    return np.asarray(np.array(words) == b"1", bool)


def _read_all_tags(path: Path, images: Sequence[str]) -> tuple[str, ...]:
    """All tags that the photograph has on Flickr; a line is its number there and the tags."""
    lines = list(tag_lines(path))
    for (number, words), image in zip(lines, images):
        if words[0] != Path(image).stem.rpartition("_")[2]:
            raise XmrError(f"{path}, line {number}: photograph {words[0]}, but Imagelist.txt has {image} in its place")
    if len(lines) != len(images):
        raise XmrError(f"{path} has {len(lines)} lines for the {len(images)} images of Imagelist.txt")
    return tuple(" ".join(words[1:]) for _, words in lines)


def _read_1k_tags(path: Path, images: int) -> tuple[str, ...]:
    """The tags among the 1,000 most frequent, in the order of TagList1k.txt; a line is a 0 or 1 for each of these."""
    names = [line for _, line in numbered_lines(_require(path.with_name("TagList1k.txt")))]
    texts = []
    with open(path, "rb") as stream:  # half a gigabyte: not at once
        lines = track(stream, "reading tags", total=images, console=console, transient=True)
        for number, line in enumerate(lines, start=1):
            digits = line.translate(None, b" \t\r\n")
            if not digits:
                continue
            flags = np.frombuffer(digits, np.uint8) - ord("0")
            if flags.size != len(names) or flags.max() > 1:
                raise XmrError(f"{path}, line {number}: not {len(names)} values of 0 and 1, one for each tag")
            texts.append(" ".join(names[index] for index in np.flatnonzero(flags)))
    if len(texts) != images:
        raise XmrError(f"{path} has {len(texts)} lines for the {images} images of Imagelist.txt")
    return tuple(texts)
