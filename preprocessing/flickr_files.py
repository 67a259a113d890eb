"""The files in which Flickr8k and Flickr30k are published: captions and splits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocessing.layout import Layout
from preprocessing.splits import canonical_split
from preprocessing.tables import numbered_lines, read_utf8
from xmr_e2e.errors import XmrError

LAYOUT = Layout(
    "Flickr8k or Flickr30k",
    (
        "Flickr8k:  Flicker8k_Dataset/, Flickr8k.token.txt, Flickr_8k.{trainImages,devImages,testImages}.txt",
        "Flickr30k: flickr30k-images/, results_20130124.token or results.csv; dataset_flickr30k.json for its splits",
    ),
    "Publisher: the University of Illinois gives both on request (shannon.cs.illinois.edu/DenotationGraph); the splits "
    "of Flickr30k are in caption_datasets.zip at cs.stanford.edu/people/karpathy/deepimagesent.",
)
FLICKR8K_CAPTIONS = ("Flickr8k.token.txt",)
FLICKR8K_IMAGES = ("Flicker8k_Dataset", "Flickr8k_Dataset")
FLICKR8K_SPLITS = {"train": "trainImages", "val": "devImages", "test": "testImages"}
FLICKR30K_CAPTIONS = ("results_20130124.token", "results.csv")
FLICKR30K_IMAGES = ("flickr30k-images", "flickr30k_images")
FLICKR30K_SPLITS = "dataset_flickr30k.json"

TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d+)\t(?P<caption>.*)")
CSV_LINE = re.compile(r"(?P<image>[^|]+)\|\s*(?P<number>\d+)\s*\|(?P<caption>.*)")
NUMBERED_NAME = re.compile(r"(?P<name>.+\.jpg)\.\d+", re.IGNORECASE)
LISTED = 5


@dataclass(frozen=True)
class Published:
    """What the publisher's files say.

    captions: image name -> its captions in their order. splits: image name -> "train" | "val" | "test"; empty where
    the dataset lies without them. images: the folder of photographs.
    """

    dataset: str
    images: Path
    captions: dict[str, tuple[str, ...]]
    splits: dict[str, str]
    notes: tuple[str, ...]


def read_published(raw: Path) -> Published:
    """Read captions and splits of whichever of the two datasets lies in the folder.

    Raises:
        XmrError: neither does, a file of it is missing, or one cannot be read.
    """
    LAYOUT.require_folder(raw)
    flickr8k, flickr30k = _find(raw, FLICKR8K_CAPTIONS), _find(raw, FLICKR30K_CAPTIONS)
    path = flickr8k or flickr30k
    if path is None:
        raise LAYOUT.error(f"{raw} holds none of {', '.join(FLICKR8K_CAPTIONS + FLICKR30K_CAPTIONS)}")
    names = FLICKR8K_IMAGES if flickr8k else FLICKR30K_IMAGES
    images = _find(raw, names)
    if images is None or not images.is_dir():
        raise LAYOUT.error(f"{raw} holds no folder {names[0]}")
    captions, notes = read_captions(path)
    splits = _flickr8k_splits(raw) if flickr8k else _flickr30k_splits(raw)
    return Published("flickr8k" if flickr8k else "flickr30k", images, captions, splits, tuple(notes))


def _find(raw: Path, names: Iterable[str]) -> Path | None:
    return next((raw / name for name in names if (raw / name).exists()), None)


def read_captions(path: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Image name -> captions in the order of their numbers, and notes about lines that were repaired or left out.

    Reads `image#number<TAB>caption` and, from a .csv, `image| number| caption` with a header.

    Raises:
        XmrError: no line has that form.
    """
    pattern = CSV_LINE if path.suffix == ".csv" else TOKEN_LINE
    numbered: dict[str, dict[int, str]] = {}
    odd_lines = []
    for line_number, line in numbered_lines(path):
        match = pattern.fullmatch(line)
        if match:
            captions = numbered.setdefault(match["image"].strip(), {})
            captions.setdefault(int(match["number"]), match["caption"].strip())
        elif not (line_number == 1 and line.startswith("image_name")):
            odd_lines.append(line_number)
    if not numbered:
        raise XmrError(f"{path}: no line has the form of a caption, such as {_example(pattern)!r}")
    named, renamed = _without_numbered_names(numbered)
    in_order = {image: tuple(captions[number] for number in sorted(captions)) for image, captions in named.items()}
    return in_order, [*_lines_left_out(path, odd_lines), *renamed]


def _lines_left_out(path: Path, lines: Sequence[int]) -> list[str]:
    notes = [f"{path.name}, line {number}: no caption line, left out" for number in lines[:LISTED]]
    if len(lines) > LISTED:
        notes.append(f"{path.name}: {len(lines) - LISTED} more lines left out")
    return notes


def _example(pattern: re.Pattern[str]) -> str:
    return "1.jpg| 0| A dog runs ." if pattern is CSV_LINE else "1.jpg#0\tA dog runs ."


def _without_numbered_names(numbered: dict[str, dict[int, str]]) -> tuple[dict[str, dict[int, str]], list[str]]:
    """A few names in the token file are `x.jpg.1`: they mean `x.jpg`, unless that has captions of its own."""
    named, notes = {}, []
    for image, captions in numbered.items():
        match = NUMBERED_NAME.fullmatch(image)
        if match is None:
            named[image] = captions
        elif match["name"] in numbered:
            notes.append(f"captions of {image} left out: {match['name']} has its own")
        else:
            named[match["name"]] = captions
            notes.append(f"captions of {image} taken for {match['name']}")
    return named, notes


def _flickr8k_splits(raw: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split, name in FLICKR8K_SPLITS.items():
        path = raw / f"Flickr_8k.{name}.txt"
        if not path.exists():
            raise LAYOUT.error(f"{path} does not exist")
        _assign(splits, path, ((line, split) for _, line in numbered_lines(path)))
    return splits


def _flickr30k_splits(raw: Path) -> dict[str, str]:
    path = raw / FLICKR30K_SPLITS
    splits: dict[str, str] = {}
    if not path.exists():
        return splits
    try:
        images = json.loads(read_utf8(path))["images"]
        pairs = [(image["filename"], image["split"]) for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise XmrError(f"{path}: not Karpathy's file of splits, which has images with filename and split") from error
    _assign(splits, path, ((image, canonical_split(split, str(path))) for image, split in pairs))
    return splits


def _assign(splits: dict[str, str], path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    for image, split in pairs:
        if splits.setdefault(image, split) != split:
            raise XmrError(f"{path}: {image} is in the split {split!r} and in {splits[image]!r}")
