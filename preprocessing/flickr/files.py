"""The files in which Flickr8k and Flickr30k are published: captions and splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preprocessing.common.karpathy import Entry, read_karpathy
from preprocessing.common.layout import Layout
from preprocessing.common.splits import canonical_split
from preprocessing.common.tables import numbered_lines
from preprocessing.flickr.captions import read_captions
from xmr_e2e.errors import XmrError

Splits = Literal["karpathy", "rest-is-train", "entities"]

FLICKR8K_CAPTIONS = ("Flickr8k.token.txt",)
FLICKR8K_IMAGES = ("Flicker8k_Dataset", "Flickr8k_Dataset")
FLICKR8K_SPLITS = {"train": "trainImages", "val": "devImages", "test": "testImages"}
FLICKR30K_CAPTIONS = ("results_20130124.token", "results.csv")
FLICKR30K_IMAGES = ("flickr30k-images", "flickr30k_images")
KARPATHY = "dataset_flickr30k.json"
ENTITIES = "flickr30k_entities"
HELD_OUT = 1000
LAYOUT = Layout(
    "Flickr8k or Flickr30k",
    (
        "Flickr8k:  Flicker8k_Dataset/, Flickr8k.token.txt, Flickr_8k.{trainImages,devImages,testImages}.txt",
        f"Flickr30k: flickr30k-images/, results_20130124.token or results.csv; {KARPATHY} for its splits "
        "(and its captions, without the others)",
    ),
    "Publisher: the University of Illinois gives both on request (shannon.cs.illinois.edu/DenotationGraph); the splits "
    "of Flickr30k are in caption_datasets.zip at cs.stanford.edu/people/karpathy/deepimagesent.",
)


@dataclass(frozen=True)
class Published:
    """The content of the publisher's files.

    captions: image name -> its captions in their order. splits: image name -> "train" | "val" | "test"; empty where
    the dataset lies without them. images: the folder of photographs.
    """

    dataset: str
    images: Path
    captions: dict[str, tuple[str, ...]]
    splits: dict[str, str]
    notes: tuple[str, ...]


def read_published(raw: Path, splits: Splits = "karpathy") -> Published:
    """Read captions and splits of whichever of the two datasets lies in the folder.

    Args:
        splits: which of Flickr30k's; Flickr8k has its publisher's.

    Raises:
        XmrError: neither does, a file of it is missing, or one cannot be read.
    """
    LAYOUT.require_folder(raw)
    path = _find(raw, FLICKR8K_CAPTIONS)
    if path is None:
        return _read_flickr30k(raw, splits)
    if splits != "karpathy":
        raise XmrError(f"{raw} holds Flickr8k, which has its publisher's splits: --splits {splits} is for Flickr30k")
    images = _image_folder(raw, FLICKR8K_IMAGES)
    captions, notes = read_captions(path)
    return Published("flickr8k", images, captions, _flickr8k_splits(raw), tuple(notes))


def _find(raw: Path, names: Iterable[str]) -> Path | None:
    return next((raw / name for name in names if (raw / name).exists()), None)


def _image_folder(raw: Path, names: Sequence[str]) -> Path:
    images = _find(raw, names)
    if images is None or not images.is_dir():
        raise LAYOUT.error(f"{raw} holds no folder {names[0]}")
    return images


def _flickr8k_splits(raw: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split, name in FLICKR8K_SPLITS.items():
        path = raw / f"Flickr_8k.{name}.txt"
        if not path.exists():
            raise LAYOUT.error(f"{path} does not exist")
        _assign(splits, path, ((line, split) for _, line in numbered_lines(path)))
    return splits


def _assign(splits: dict[str, str], path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    for image, split in pairs:
        if splits.setdefault(image, split) != split:
            raise XmrError(f"{path}: {image} is in the split {split!r} and in {splits[image]!r}")


def _read_flickr30k(raw: Path, splits: Splits) -> Published:
    path, karpathy = _find(raw, FLICKR30K_CAPTIONS), raw / KARPATHY
    if path is None and not karpathy.exists():
        raise LAYOUT.error(f"{raw} holds none of {', '.join((*FLICKR8K_CAPTIONS, *FLICKR30K_CAPTIONS, KARPATHY))}")
    images = _image_folder(raw, FLICKR30K_IMAGES)
    entries = read_karpathy(karpathy) if karpathy.exists() else []
    captions, notes = read_captions(path) if path else _karpathys_captions(karpathy, entries)
    split_of = {entry.filename: canonical_split(entry.split, entry.where) for entry in entries}
    if splits == "entities":
        split_of = _entities_splits(raw)
        notes.append(f"splits: the lists of Flickr30k Entities, not those of {KARPATHY}")
    elif splits == "rest-is-train":
        if path is None or not entries:
            missing = KARPATHY if path else FLICKR30K_CAPTIONS[0]
            raise LAYOUT.error(f"{raw / missing} does not exist; --splits rest-is-train needs it")
        split_of, moved = _rest_is_train(split_of, captions)
        notes.append(f"splits: {moved} images that are not in those of {KARPATHY}, or beyond {HELD_OUT}, are in train")
    return Published("flickr30k", images, captions, split_of, tuple(notes))


def _karpathys_captions(path: Path, entries: Iterable[Entry]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    captions = {entry.filename: entry.captions for entry in entries if entry.captions}
    if not captions:
        raise LAYOUT.error(f"{path} holds no sentences, and there is no {FLICKR30K_CAPTIONS[0]} beside it")
    return captions, [f"captions are those of {path.name}: there is no {' or '.join(FLICKR30K_CAPTIONS)}"]


def _rest_is_train(published: dict[str, str], captioned: Iterable[str]) -> tuple[dict[str, str], int]:
    """The first 1,000 of Karpathy's val and of his test; every other image is in train. And how many moved there."""
    split_of = dict.fromkeys([*published, *captioned], "train")
    for split in ("val", "test"):
        split_of |= dict.fromkeys([image for image, name in published.items() if name == split][:HELD_OUT], split)
    return split_of, sum(split == "train" and published.get(image) != "train" for image, split in split_of.items())


def _entities_splits(raw: Path) -> dict[str, str]:
    """The lists of B. A. Plummer et al., Flickr30k Entities, IJCV 2017: names without .jpg, a line each."""
    splits: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = raw / ENTITIES / f"{split}.txt"
        if not path.exists():
            raise XmrError(
                f"{path} does not exist. --splits entities needs {ENTITIES}/{{train,val,test}}.txt in {raw}: get them "
                "from github.com/BryanPlummer/flickr30k_entities"
            )
        _assign(splits, path, ((f"{line.removesuffix('.jpg')}.jpg", split) for _, line in numbered_lines(path)))
    return splits
