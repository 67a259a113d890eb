"""MSCOCO 2014 as published, with Karpathy's splits and the 80 object categories as labels.

T.-Y. Lin, M. Maire, S. Belongie, J. Hays, P. Perona, D. Ramanan, P. Dollár, C. L. Zitnick: Microsoft COCO: common
objects in context. ECCV 2014. Splits: A. Karpathy, L. Fei-Fei: Deep visual-semantic alignments for generating image
descriptions. CVPR 2015.

A sample's source is the image's path, such as val2014/COCO_val2014_000000391895.jpg. In the test split it goes on with
#fold0 to #fold4: papers give the mean over five folds of 1,000 images as COCO1K, and all 5,000 as COCO5K. The folds are
consecutive fifths of the test images in Karpathy's order (F. Faghri, D. J. Fleet, J. R. Kiros, S. Fidler: VSE++:
improving visual-semantic embeddings with hard negatives. BMVC 2018). Key order is another one, so the source says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.common.splits import canonical_split
from preprocessing.mscoco.files import SPLITS, CocoImage, read_published
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import Skipped

FOLDS = 5
RESTVAL = "restval"


@dataclass
class Selection:
    """The samples that go into the shards, and those that are skipped."""

    samples: list[RawSample] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def mscoco(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    splits: Literal["karpathy", "without-restval"] = "karpathy",
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from MSCOCO 2014: all captions of an image, and the categories of its annotated objects.

    RAW holds train2014/, val2014/, annotations/{instances,captions}_{train,val}2014.json and dataset_coco.json.
    An image without annotated objects (about one in a hundred) has no label and is relevant to nothing: such images
    are not used, and counted in the notes. In the test split, the end of a sample's source, #fold0 to #fold4, says
    its fold in COCO1K.

    Example: python -m preprocessing.mscoco data/raw/mscoco data/shards/mscoco

    Args:
        raw: the folder with the publisher's files
        out: the folder to write shards and manifest.json to
        splits: karpathy trains on 113,287 images, the 30,504 of his "restval" among them; without-restval on 82,783;
            both validate on 5,000 and test on 5,000
    """
    published = read_published(raw)
    selection = select(raw, published.images, with_restval=splits == "karpathy")
    manifest = build_shards(
        out,
        dataset="mscoco",
        classes=published.classes,
        samples=selection.samples,
        skipped=selection.skipped,
        notes=[*published.notes, *selection.notes],
        raw=raw,
        options=build,
    )
    show_built(manifest, out)


def select(raw: Path, images: Sequence[CocoImage], *, with_restval: bool) -> Selection:
    """The images that have a label and captions, in their splits; `images` are in Karpathy's order.

    Raises:
        XmrError: a split has an unknown name.
    """
    selection = Selection()
    restval = sum(image.split == RESTVAL for image in images)
    if restval:
        use = "are in train" if with_restval else "are not used"
        selection.notes.append(f"{restval} images of {RESTVAL} {use}")
    unlabeled: Counter[str] = Counter()
    for image, source in zip(images, _sources(images)):
        if image.split == RESTVAL and not with_restval:
            continue
        split = "train" if image.split == RESTVAL else canonical_split(image.split, f"{SPLITS}, {image.name}")
        if image.labels is None:
            selection.skipped.append(Skipped(source, split, "is in no annotations/instances_*.json"))
        elif not image.labels:
            unlabeled[split] += 1
        elif not image.captions:
            selection.skipped.append(Skipped(source, split, "has no captions"))
        else:
            selection.samples.append(RawSample(source, split, raw / image.name, image.captions, image.labels))
    for split, count in unlabeled.items():
        selection.notes.append(f"{count} images of {split} have no annotated object, so no label, and are not used")
    selection.notes.append(f"test: sources end in #fold0 to #fold{FOLDS - 1}, fifths in the order of {SPLITS} (COCO1K)")
    return selection


def _sources(images: Sequence[CocoImage]) -> list[str]:
    """Paths, with the fold behind those of the test split; an image that is not used keeps its place in a fold."""
    total = sum(image.split == "test" for image in images)
    sources, seen = [], 0
    for image in images:
        if image.split == "test":
            sources.append(f"{image.name}#fold{seen * FOLDS // total}")
            seen += 1
        else:
            sources.append(image.name)
    return sources
