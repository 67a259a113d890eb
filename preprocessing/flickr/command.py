"""Flickr8k and Flickr30k in their publishers' layouts, with class labels from a table.

M. Hodosh, P. Young, J. Hockenmaier: Framing image description as a ranking task. JAIR 47, 2013 (Flickr8k).
P. Young, A. Lai, M. Hodosh, J. Hockenmaier: From image descriptions to visual denotations. TACL 2, 2014 (Flickr30k).
Neither has class labels; preprocessing.caption_labels makes weak ones from the captions. Splits of Flickr30k:
A. Karpathy, L. Fei-Fei: Deep visual-semantic alignments for generating image descriptions. CVPR 2015.
B. A. Plummer, L. Wang, C. M. Cervantes, J. C. Caicedo, J. Hockenmaier, S. Lazebnik: Flickr30k Entities. IJCV 123, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.common.splits import canonical_split
from preprocessing.common.tables import missing_columns, read_csv
from preprocessing.flickr.files import Published, Splits, read_published
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import Skipped

LABEL_TABLE = ("image", "split", "label", "labels")
"""The columns of a label table, of which it has one of the last two."""


@dataclass(frozen=True)
class Labeled:
    """One row of the label table; without a split ("") the image is not used."""

    image: str
    split: str
    labels: tuple[str, ...]
    where: str = ""
    """file and line"""


@dataclass
class Selection:
    """The samples that go into the shards, and those that are skipped."""

    samples: list[RawSample] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def flickr(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    labels: Path | None = None,
    splits: Splits = "karpathy",
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from Flickr8k or Flickr30k, whichever lies in RAW.

    Flickr8k: Flicker8k_Dataset/, Flickr8k.token.txt, Flickr_8k.{trainImages,devImages,testImages}.txt.
    Flickr30k: flickr30k-images/, results_20130124.token or results.csv, and dataset_flickr30k.json for splits; its
    captions are taken where the other files are missing.

    Neither has class labels: python -m preprocessing.caption_labels makes a table of weak ones.

    Example: python -m preprocessing.flickr data/raw/flickr8k data/shards/scenes --labels scenes.csv

    Args:
        raw: the folder with the publisher's files
        out: the folder to write shards and manifest.json to
        labels: a CSV table with the columns image, split, and label (one class) or labels (several, parted by spaces);
            only its images are used, in its splits (train, dev or val, test; empty: not used). Without it, all images
            of the published splits, without labels
        splits: those of Flickr30k, unless a label table has its own. karpathy: 29,000/1,014/1,000 of
            dataset_flickr30k.json. rest-is-train: 29,783/1,000/1,000, the first 1,000 of his val and his test, and all
            other images in train. entities: 29,783/1,000/1,000 as listed in flickr30k_entities/{train,val,test}.txt;
            another test set than Karpathy's
    """
    published = read_published(raw, splits)
    if labels:
        rows = read_labels(labels)
        selection = select_labeled(published, rows)
        classes = sorted({label for row in rows for label in row.labels})
        # The publisher has no classes: whoever reads a figure on these must know whose they are.
        dataset = f"{published.dataset} (labels from {labels.name})"
    else:
        selection = select_published(published)
        classes = []
        dataset = published.dataset
    manifest = build_shards(
        out,
        dataset=dataset,
        classes=classes,
        samples=selection.samples,
        skipped=selection.skipped,
        notes=[*published.notes, *selection.notes],
        raw=raw,
        options=build,
    )
    show_built(manifest, out)


def read_labels(path: Path) -> list[Labeled]:
    """Read a label table.

    Raises:
        XmrError: a column is missing, or a split has an unknown name.
    """
    columns, rows = read_csv(path, lambda name: name in LABEL_TABLE)
    several = "labels" in columns
    if not {"image", "split"} <= set(columns) or several == ("label" in columns):
        raise missing_columns(path, columns, "image, split, and either label or labels")
    return [
        Labeled(
            image=row.cells["image"],
            split=canonical_split(row.cells["split"], row.where) if row.cells["split"] else "",
            labels=tuple(row.cells["labels"].split()) if several else tuple(filter(None, [row.cells["label"]])),
            where=row.where,
        )
        for row in rows
    ]


def select_labeled(published: Published, rows: Sequence[Labeled]) -> Selection:
    """The images of the label table that have a split, a label and captions.

    Raises:
        XmrError: two such rows are of one image; names both lines.
    """
    selection = Selection()
    used: dict[str, Labeled] = {}
    for row in rows:
        if row.split and row.labels:
            first = used.setdefault(row.image, row)
            if first is not row:
                raise XmrError(f"{first.where} and {row.where.rpartition(', ')[2]}: duplicate sample {row.image!r}; "
                               "each image has one row, with all its labels")  # fmt: skip
            _add(selection, published, row)
    _note_unused(selection, sum(not row.split for row in rows), "images of the label table have no split")
    _note_unused(selection, sum(bool(row.split and not row.labels) for row in rows), "images have no label")
    moved = sum(published.splits.get(row.image, row.split) != row.split for row in used.values())
    if moved:
        selection.notes.append(f"{moved} images are in another split than the published one, as the label table says")
    return selection


def select_published(published: Published) -> Selection:
    """All images of the published splits, without labels.

    Raises:
        XmrError: there are no published splits.
    """
    if not published.splits:
        raise XmrError(
            f"{published.dataset}: no splits were found; put dataset_flickr30k.json (Karpathy's splits) beside the "
            "captions, or name a table with the columns image, split, label with --labels"
        )
    selection = Selection()
    for image, split in published.splits.items():
        _add(selection, published, Labeled(image, split, ()))
    _note_unused(selection, len(published.captions.keys() - published.splits.keys()), "images are in no split")
    return selection


def _add(selection: Selection, published: Published, row: Labeled) -> None:
    """Select the image if it has captions, and skip it if not; a broken image is found when it is decoded."""
    captions = published.captions.get(row.image)
    if captions is None:
        selection.skipped.append(Skipped(row.image, row.split, "has no captions"))
        return
    selection.samples.append(RawSample(row.image, row.split, published.images / row.image, captions, row.labels))


def _note_unused(selection: Selection, count: int, why: str) -> None:
    if count:
        selection.notes.append(f"{count} {why}, not used")
