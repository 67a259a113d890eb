"""Regions that others computed into shards that are already built: bottom-up attention's .tsv, and numpy's files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import tyro

from preprocessing.bottom_up.picture_ids import PictureIds, read_names
from preprocessing.bottom_up.region_arrays import ArrayRegions, FolderRegions
from preprocessing.bottom_up.region_files import MOST_REGIONS, Precision, RawRegions, RegionFile, Unit, to_stored
from preprocessing.bottom_up.region_tsv import TsvRegions
from preprocessing.common.command import show_built
from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of, write_atomically
from xmr_e2e.received import shortened
from xmr_e2e.shards.extend import extend_shards
from xmr_e2e.shards.features import UnusableFeatures, encode_regions
from xmr_e2e.shards.index import Span, load_index
from xmr_e2e.shards.manifest import NAME, Manifest, load_manifest, shard_file
from xmr_e2e.shards.media import PILLOW_MAX_PIXELS, UnusableImage, decode_rgb
from xmr_e2e.shards.record import Record, read_metadata
from xmr_e2e.shards.schema import IMAGE_EXTENSIONS, REGIONS_MEMBER

logger = logging.getLogger(__name__)

_BATCH = 16
_NAMED = 3
"""of samples or files, in a message or note"""


@dataclass(frozen=True)
class Options:
    """The part of a file's regions that the shards keep. `bottom_up` explains each."""

    count: int = 36
    repeat: bool = False
    box_unit: Unit = "pixels"
    whole_picture: bool = False
    precision: Precision = "float16"
    allow_missing: bool = False


def bottom_up(
    shards: Annotated[Path, tyro.conf.arg(metavar="SHARDS")],
    files: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILES")],
    /,
    *,
    count: int = 36,
    ids: Path | None = None,
    boxes: Path | None = None,
    sizes: Path | None = None,
    names: Path | None = None,
    columns: tuple[str, ...] = (),
    box_unit: Unit = "pixels",
    whole_picture: bool = False,
    repeat: bool = False,
    precision: Precision = "float16",
    allow_missing: bool = False,
    missing_list: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Put regions that others computed into a folder of shards: features, boxes and, where the file has them, objects.

    Files are .tsv of bottom-up attention (with or without objects), .npy arrays (images, regions, width) with a list of
    ids, or folders with one .npz or .npy for each picture. A picture is found by the id: the path that the sample
    comes from, its file name, that without its ending, or its number (391895 is COCO_val2014_000000391895.jpg).
    Interrupted, the command goes on where it was. The tower StoredRegions reads the regions.

    Example: python -m preprocessing.bottom_up data/shards/mscoco trainval_resnet101_faster_rcnn_genome_36.tsv

    Args:
        shards: the folder of shards, changed in place
        files: one or more files, or folders with a file for each picture
        count: regions of each picture: the most certain ones where the file says how certain they are, else the first
        ids: for a .npy: a file with an id a line; train_ids.txt beside train_ims.npy is found by itself
        boxes: for a .npy: the boxes, .npy (images, regions, 4), x1 y1 x2 y2; train_boxes.npy or train_ims_bbx.npy is
            found by itself. For a folder: another one, with the boxes ID.npy (regions, 4) of each picture
        sizes: for a .npy: width and height of the pictures, .npy (images, 2); train_sizes.npy is found by itself.
            Without it, the sizes are those of the pictures in the shards
        names: a table with the columns id and name, or a JSON object, where ids are not names of pictures
        columns: of a .tsv without a header whose columns are neither bottom-up attention's nor LXMERT's
        box_unit: pixels, or fractions of the picture's sides
        whole_picture: of files without boxes: let each region's box be the whole picture, which says nothing
        repeat: where a picture has fewer regions, take the same ones again until there are enough
        precision: of the features; float16 takes half of the room
        allow_missing: leave pictures that the files do not have without regions; StoredRegions then refuses them
        missing_list: a file to be written with the sources of pictures that the files do not have, as --exclude of a
            builder takes it
        overwrite: replace regions that were made in another way, or came with the dataset
    """
    options = Options(count, repeat, box_unit, whole_picture, precision, allow_missing)
    opened = [_open(path, ids, boxes, sizes, columns, alone=len(files) == 1) for path in files]
    found = _Regions.of(opened, options, None if names is None else read_names(names))
    note = _note(opened, options, names)
    manifest = found.add_to(shards, note, missing_list=missing_list, overwrite=overwrite)
    show_built(manifest, shards)


def _open(
    path: Path, ids: Path | None, boxes: Path | None, sizes: Path | None, columns: Sequence[str], *, alone: bool
) -> RegionFile:
    for option, other in (("--ids", ids), ("--boxes", boxes), ("--sizes", sizes)):
        if other is not None and not alone:
            raise XmrError(f"{option} is for one file; of several, each finds its own beside it, such as train_ids.txt")
        if other is not None and (path.suffix != ".npy" and (option != "--boxes" or not path.is_dir())):
            raise XmrError(f"{option} is for a .npy, which {path} is not")
        if other is not None and not other.exists():
            raise XmrError(f"{option} {other}: does not exist")
    if path.is_dir():
        return FolderRegions(path, boxes)
    if not path.is_file():
        raise XmrError(f"{path}: no such file or folder")
    if path.suffix == ".npy":
        return ArrayRegions(path, ids, boxes, sizes)
    if path.suffix == ".npz":
        raise XmrError(
            f"{path}: a .npz of all pictures would be read whole; save its arrays as .npy, or a file a picture"
        )
    return TsvRegions(path, columns)


@dataclass
class _Regions:
    """The regions of all files by their pictures."""

    options: Options
    ids: PictureIds[tuple[RegionFile, int]]
    missing: list[str] = field(default_factory=list)
    repeated: int = 0
    has_classes: bool | None = None

    @classmethod
    def of(cls, files: Sequence[RegionFile], options: Options, names: dict[str, str] | None) -> _Regions:
        """Raises XmrError for an impossible count, files without pictures, and one id with two kinds of regions."""
        if not 0 < options.count <= MOST_REGIONS:
            raise XmrError(f"--count {options.count}: wanted are 1 to {MOST_REGIONS}")
        found = cls(options, PictureIds(names))
        twice = 0
        for file in files:
            for identity, number in file.entries():
                known = found.ids.get(identity)
                if known is None:
                    found.ids.add(identity, (file, number))
                    continue
                twice += 1
                if not _same(known[0].read(known[1]), file.read(number)):
                    raise XmrError(
                        f"{file.where(number)}: other regions of {shortened(identity)} than {known[0].where(known[1])}"
                    )
        if not len(found.ids):
            raise XmrError(f"{', '.join(file.describe() for file in files) or 'no file'}: no regions there")
        if twice:
            logger.info("%s pictures are there more than once, with the same regions", f"{twice:,}")
        return found

    def add_to(self, shards: Path, note: str, *, missing_list: Path | None, overwrite: bool) -> Manifest:
        """Raises XmrError for pictures without regions, unless they are allowed, before anything is changed."""
        if (shards / NAME).exists():  # not while an interrupted call goes on, which has looked before
            self._match(shards, missing_list)
        manifest = extend_shards(shards, REGIONS_MEMBER, self._encode, batch=_BATCH, note=note, overwrite=overwrite)
        if self.repeated:
            logger.warning("%s pictures have fewer than %s regions, and have some twice",
                           f"{self.repeated:,}", self.options.count)  # fmt: skip
        return manifest

    def _match(self, shards: Path, missing_list: Path | None) -> None:
        samples = 0
        for source, key in _pictured(shards):
            samples += 1
            if self.ids.find(source, key) is None:
                self.missing.append(source or key)
        if missing_list is not None:
            write_atomically(missing_list, "".join(f"{name}\n" for name in self.missing).encode())
        if unused := self.ids.unused():
            logger.info("%s of %s ids stand for no picture of %s", f"{unused:,}", f"{len(self.ids):,}", shards)
        if not self.missing:
            return
        what = (
            f"{len(self.missing):,} of {samples:,} pictures of {shards} have no regions in these files, such as "
            f"{', '.join(self.missing[:_NAMED])} (ids there: {', '.join(self.ids.examples(_NAMED))})"
        )
        if len(self.missing) == samples or not self.options.allow_missing:
            raise XmrError(
                f"{what}; --names says which id stands for which picture, --missing-list FILE lists them for the "
                "--exclude of a builder, --allow-missing leaves them without regions"
            )
        logger.warning("%s", what)

    def _encode(self, records: Sequence[Record]) -> list[bytes | None]:
        return [None if record.image is None else self._regions_of(record) for record in records]

    def _regions_of(self, record: Record) -> bytes | None:
        place = self.ids.find(record.metadata.source, record.key)
        if place is None and self.options.allow_missing:
            return None
        if place is None:
            raise XmrError(f"{record.where}: the files have no regions of {record.metadata.source or record.key}")
        file, number = place
        raw, where, options = file.read(number), file.where(number), self.options
        if raw.boxes is None and not options.whole_picture:
            raise XmrError(f"{where}: there are no boxes; name them with --boxes, or say --whole-picture")
        if self.has_classes not in (None, raw.classes is not None):
            raise XmrError(f"{where}: of some pictures there are objects, of others not; give the files of one kind")
        self.has_classes = raw.classes is not None
        size = raw.size or (_size_of(record) if raw.boxes is not None else (1, 1))
        self.repeated += len(raw.features) < options.count
        stored = to_stored(
            raw, size, where,
            count=options.count, repeat=options.repeat, unit=options.box_unit, precision=options.precision,
        )  # fmt: skip
        try:
            return encode_regions(stored)
        except UnusableFeatures as error:
            raise XmrError(f"{where}: {error}") from error


def _pictured(shards: Path) -> Iterator[tuple[str, str]]:
    """Source and key of each sample that has a picture itself, not only its features."""
    manifest = load_manifest(shards)
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        path = shard_file(shards, shard.name)
        index = load_index(path, shard, len(manifest.classes))
        if not path.exists():
            raise XmrError(f"{path}: missing; build or fetch the shards again")
        with open(path, "rb") as stream:

            def read(span: Span, stream: BinaryIO = stream) -> bytes:
                stream.seek(span[0])
                return stream.read(span[1])

            for row in range(len(index)):
                if any(index.span(extension, row) for extension in IMAGE_EXTENSIONS):
                    yield read_metadata(index, row, read, f"{path}: {index.key(row)}").source, index.key(row)


def _same(one: RawRegions, other: RawRegions) -> bool:
    return all(
        a is b or (a is not None and b is not None and np.array_equal(a, b, equal_nan=False))
        for a, b in zip(one, other)
    )


def _size_of(record: Record) -> tuple[int, int]:
    assert record.image is not None
    try:
        return decode_rgb(record.image, max_pixels=PILLOW_MAX_PIXELS).size
    except UnusableImage as error:
        raise XmrError(f"{record.where}: the image {error}") from error


def _note(files: Sequence[RegionFile], options: Options, names: Path | None) -> str:
    """The making of the regions, with all on which they depend."""
    described = [file.describe() for file in files]
    more = hashlib.sha256("\n".join(described).encode()).hexdigest()[:16]
    listed = ", ".join(described[:_NAMED]) + (f" and more, {more}" if len(described) > _NAMED else "")
    parts = [f"{options.count} regions of {listed}", options.precision, f"boxes in {options.box_unit}"]
    parts += [f"names {sha256_of(names)[:16]}"] if names else []
    flags = {"repeated where there are fewer": options.repeat, "boxes of the whole picture": options.whole_picture}
    parts += [what for what, holds in {**flags, "some without": options.allow_missing}.items() if holds]
    return shortened("; ".join(parts), quoted=False, most=2000)
