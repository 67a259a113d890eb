"""MIRFLICKR-25K in its publisher's layout, in the form of DCMH: 20,015 pairs of photograph and tags, 24 labels.

M. J. Huiskes, M. S. Lew: The MIR Flickr retrieval evaluation. MIR 2008.
Q.-Y. Jiang, W.-J. Li: Deep cross-modal hashing. CVPR 2017 (DCMH).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.progress import track

from preprocessing.common.command import OutFolder, RawFolder, run, show_built
from preprocessing.common.held_out import hold_out
from preprocessing.common.layout import Layout
from preprocessing.common.tables import numbered_lines
from preprocessing.common.tags import tag_lines
from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import Skipped

ANNOTATIONS = "mirflickr25k_annotations_v080"
LAYOUT = Layout(
    "MIRFLICKR-25K",
    (
        "mirflickr/                       im<id>.jpg, doc/common_tags.txt, meta/tags/tags<id>.txt",
        f"{ANNOTATIONS}/   <label>.txt for 24 labels",
    ),
    "Publisher: press.liacs.nl/mirflickr/mirdownload.html. Unpack mirflickr25k.zip, and "
    f"{ANNOTATIONS}.zip into a folder of its name.",
)
LABELS = (
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male", "night",
    "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport", "tree", "water",
)  # fmt: skip
IMAGE_NAME = re.compile(r"im(\d{1,9})\.jpg")
TAGS_NAME = re.compile(r"tags(\d{1,9})\.txt")
PUBLISHED, TEST, VAL = 20015, 2000, 1000


@dataclass
class Selection:
    """Source -> text and source -> labels of what can be used, and what cannot."""

    texts: dict[str, str] = field(default_factory=dict)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def mirflickr(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    tags: Literal["common", "all"] = "common",
    val: int | None = None,
    seed: int = 0,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from MIRFLICKR-25K: a sample is a photograph, its tags as one text, and its labels.

    Used are the images with at least one tag of doc/common_tags.txt and at least one of the 24 (potential) labels, as
    in DCMH. There are no published splits: 2,000 images (at most a fifth) are drawn for test, the queries of DCMH.

    Example: python -m preprocessing.mirflickr data/raw/mirflickr data/shards/mirflickr

    Args:
        raw: the folder with mirflickr/ and mirflickr25k_annotations_v080/
        out: the folder to write shards and manifest.json to
        tags: the common tags of an image as its text, or all; the same images are used either way
        val: so many images are drawn from the rest for val; by default 1,000, at most a fifth. 0: none, as in DCMH
        seed: another seed draws other splits
    """
    LAYOUT.require_folder(raw)
    selection = select(raw, all_tags=tags == "all")
    split_of = dict.fromkeys(selection.texts, "train")
    split_of = hold_out(split_of, "test", pool="train", count=None, usual=TEST, seed=seed)
    split_of = hold_out(split_of, "val", pool="train", count=val, usual=VAL, seed=seed)
    samples = [
        RawSample(
            source=source,
            split=split,
            image=raw / "mirflickr" / source,
            texts=(selection.texts[source],),
            labels=selection.labels[source],
        )
        for source, split in split_of.items()
    ]
    manifest = build_shards(
        out,
        dataset="mirflickr25k",
        classes=LABELS,
        samples=samples,
        skipped=selection.skipped,
        notes=_notes(selection, split_of, tags, seed),
        raw=raw,
        options=build,
    )
    show_built(manifest, out)


def select(raw: Path, *, all_tags: bool) -> Selection:
    """The images with a common tag and a label.

    Raises:
        XmrError: a file is missing, or a line of it is none that can be there.
    """
    folder = raw / "mirflickr"
    common = {words[0] for _, words in tag_lines(_require(folder / "doc/common_tags.txt"))}
    tag_folder = _require(folder / "meta/tags")
    labels, notes = read_annotations(_require(raw / ANNOTATIONS))
    images = _numbers(folder, IMAGE_NAME)
    if not images:
        raise LAYOUT.error(f"{folder} holds no image im<id>.jpg")
    ids = labels.keys() | images | _numbers(tag_folder, TAGS_NAME)
    selection = Selection(notes=notes)
    for number in track(sorted(ids), "reading tags", console=console, transient=True):
        source, path = f"im{number}.jpg", tag_folder / f"tags{number}.txt"
        if not path.exists():
            selection.skipped.append(Skipped(source, "", f"{path} does not exist"))
            continue
        found = [word for _, words in tag_lines(path) for word in words]
        shared = [tag for tag in found if tag in common]
        if not shared:
            selection.unused["no common tag"] += 1
        elif number not in labels:
            selection.unused["a common tag, but none of the 24 labels"] += 1
        else:
            selection.texts[source] = " ".join(found if all_tags else shared)
            selection.labels[source] = labels[number]
    return selection


def read_annotations(folder: Path) -> tuple[dict[int, tuple[str, ...]], list[str]]:
    """Number of an image -> its labels, in the order of LABELS; and notes about what was not used.

    The files <label>_r1.txt, the same labels taken more strictly, are not read.

    Raises:
        XmrError: a label has no file, or a line of one is not the number of an image.
    """
    labels: dict[int, list[str]] = {}
    notes = []
    for label in LABELS:
        path = _require(folder / f"{label}.txt")
        for number, line in numbered_lines(path):
            if not re.fullmatch("[0-9]{1,9}", line):
                raise XmrError(f"{path}, line {number}: {shortened(line)} is not the number of an image")
            names = labels.setdefault(int(line), [])
            if label in names:
                notes.append(f"{path.name}, line {number}: image {line} is there twice")
            else:
                names.append(label)
    unknown = sorted(
        path.name for path in folder.glob("*.txt") if path.stem.removesuffix("_r1") not in (*LABELS, "README")
    )
    if unknown:
        notes.append(f"{folder.name}: not used: {', '.join(unknown)}")
    return {image: tuple(names) for image, names in labels.items()}, notes


def _require(path: Path) -> Path:
    if not path.exists():
        raise LAYOUT.error(f"{path} does not exist")
    return path


def _numbers(folder: Path, pattern: re.Pattern[str]) -> set[int]:
    return {int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}


def _notes(selection: Selection, split_of: Mapping[str, str], tags: str, seed: int) -> list[str]:
    counts = Counter(split_of.values())
    drawn = " and ".join(f"{counts[split]:,} for {split}" for split in ("val", "test") if counts[split])
    return [
        f"published (DCMH): {PUBLISHED:,} pairs with a common tag and a label; found here: {len(split_of):,}",
        *([f"drawn with seed {seed}: {drawn}; no list of ids is published"] if drawn else []),
        f"texts: {'the common' if tags == 'common' else 'all'} tags of an image",
        *(f"{count:,} images have {what}: not used" for what, count in selection.unused.items()),
        *selection.notes,
    ]


if __name__ == "__main__":
    run(mirflickr)
