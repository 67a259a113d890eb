"""Search for duplicates, within a split or across several: the same files, pictures that look the same, texts."""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich import box
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from xmr_e2e.console import Console
from xmr_e2e.escape import one_line
from xmr_e2e.shards.audit.duplicates import Pairs, exact_duplicates, near_duplicates
from xmr_e2e.shards.audit.fingerprint import FINGERPRINT, ShardTask, fingerprint_shard
from xmr_e2e.shards.index import load_index
from xmr_e2e.shards.manifest import Shard, load_manifest
from xmr_e2e.shards.media import MAX_PIXELS, UnusableImage
from xmr_e2e.shards.parallel import CPUS, map_shards
from xmr_e2e.shards.record import Record, read_record
from xmr_e2e.shards.remote.mount import load_mount, open_tar
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS
from xmr_e2e.shards.sheet import Tile, tile_picture, write_sheet

# Byte for byte; by their perceptual hashes; by all their texts together.
KINDS = {
    "picture": "same picture",
    "look": "alike pictures",
    "audio": "same sound",
    "video": "same video",
    "shape3d": "same shape",
    "texts": "same texts",
}
PAIRS_DRAWN = 24
ACROSS = "#b3261e"
"""Colour of the pairs on the sheet that lie in two splits."""


@dataclass(frozen=True)
class AuditedSplit:
    """One split of one folder."""

    folder: Path
    split: str
    shards: tuple[Shard, ...]
    max_pixels: int
    classes: int
    """their number"""

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Audit:
    """The samples that occur more than once."""

    parts: tuple[AuditedSplit, ...]
    found: Mapping[str, Pairs]
    """by kind, in the order of KINDS"""
    undecodable: tuple[str, ...]
    """shard and key of the pictures that were left out"""
    flat: int
    """pictures without any contrast, compared by their bytes alone"""

    @property
    def across(self) -> int:
        """The number of pairs in splits of different names: what was trained on is measured, too."""
        return sum(
            int(pairs.counts[one, other])
            for pairs in self.found.values()
            for one, other in itertools.combinations(range(len(self.parts)), 2)
            if self.is_across(one, other)
        )

    def is_across(self, one: int, other: int) -> bool:
        return self.parts[one].split != self.parts[other].split

    def title(self, part: int) -> str:
        """The split's name; with its folder's where there are several."""
        own = self.parts[part]
        several = len({each.folder for each in self.parts}) > 1
        return f"{own.folder.resolve().name} {own.split}" if several else own.split

    def cases(self) -> Iterator[tuple[str, int, int, tuple[int, int]]]:
        """Kind, both parts and the two samples' numbers, of the pairs kept; those across splits first."""
        kept = [
            (kind, one, other, pair)
            for kind, pairs in self.found.items()
            for (one, other), cases in sorted(pairs.cases.items())
            for pair in cases
        ]
        yield from sorted(kept, key=lambda case: not self.is_across(case[1], case[2]))

    def place(self, sample: int) -> tuple[AuditedSplit, Shard, int]:
        """Of a sample's number: its split, its shard and its row in that."""
        number = bisect_right(self._ends, sample)
        part, shard = self._shards[number]
        return part, shard, sample - self._ends[number] + shard.samples

    @cached_property
    def _shards(self) -> list[tuple[AuditedSplit, Shard]]:
        return [(part, shard) for part in self.parts for shard in part.shards]

    @cached_property
    def _ends(self) -> list[int]:
        """Of each shard, the number behind its last sample."""
        return list(itertools.accumulate(shard.samples for _, shard in self._shards))


def audit(folders: Sequence[Path], *, texts: bool = True, workers: int = CPUS) -> Audit:
    """Look for duplicates among all samples of these folders. All pictures are decoded.

    Sounds, videos and 3D shapes are compared by the bytes of their files, where there are any. Of each sample 121 bytes
    are held, and about as much again while they are compared.

    Raises:
        XmrError: a folder without a manifest, or a shard that cannot be read.
    """
    parts = tuple(part for folder in folders for part in _parts(folder))
    tasks = [ShardTask(part.folder, shard, part.max_pixels, part.classes) for part in parts for shard in part.shards]
    sizes = [task.shard.samples for task in tasks]
    looked = map_shards(fingerprint_shard, tasks, sizes=sizes, title="reading samples", workers=workers)
    rows = np.concatenate([np.empty(0, FINGERPRINT), *(shard.rows for shard in looked)])
    part = np.repeat(np.arange(len(parts)), [each.samples for each in parts])
    found = {
        "picture": exact_duplicates(rows["picture"], part, len(parts)),
        "look": _look_alike(rows, part, len(parts)),
    }
    for modality in MEDIA_EXTENSIONS:
        if rows[modality].any():
            found[modality] = exact_duplicates(rows[modality], part, len(parts))
    if texts:
        found["texts"] = exact_duplicates(rows["texts"], part, len(parts))
    undecodable = [f"{task.shard.name}: {key}" for task, shard in zip(tasks, looked) for key in shard.undecodable]
    return Audit(parts, found, tuple(undecodable), sum(shard.flat for shard in looked))


def counts_table(result: Audit) -> Table:
    """Pairs of each kind, for each two splits."""
    table = Table("pairs of samples in", box=box.SIMPLE_HEAD)
    for kind in result.found:
        table.add_column(KINDS[kind], justify="right")
    for one, other in itertools.combinations_with_replacement(range(len(result.parts)), 2):
        counts = [int(pairs.counts[one, other]) for pairs in result.found.values()]
        name = result.title(one) if one == other else f"{result.title(one)} – {result.title(other)}"
        style = "bold red" if any(counts) and result.is_across(one, other) else None
        table.add_row(Text(one_line(name)), *(f"{count:,}" for count in counts), style=style)
    return table


def describe(result: Audit) -> Iterator[str]:
    """Lines: the first pairs by shard and key, what was not compared, and what it comes to."""
    for kind, one, other, (a, b) in result.cases():
        yield f"{result.title(one)} – {result.title(other)}, {KINDS[kind]}: {_where(result, a)} = {_where(result, b)}"
    if result.undecodable:
        yield (f"{len(result.undecodable)} pictures cannot be decoded and were left out, the first "
               f"{result.undecodable[0]}; run `xmr shards verify`")  # fmt: skip
    if result.flat:
        yield f"{result.flat} pictures are of one colour, and were compared by their bytes alone"
    total = sum(part.samples for part in result.parts)
    if result.across:
        yield (f"{result.across:,} pairs among {total:,} samples lie in two splits: --exclude exclude.txt lists what "
               "to leave out, and the builder's option --exclude leaves it out")  # fmt: skip
    else:
        yield f"no duplicates in two splits among {total:,} samples"


def draw_pairs(result: Audit, out: Path) -> None:
    """Draw the first pairs side by side, those across splits in colour."""
    tiles = []
    for kind, one, other, pair in itertools.islice(result.cases(), PAIRS_DRAWN):
        mark = ACROSS if result.is_across(one, other) else None
        for part, sample in zip((one, other), pair):
            record = _record(result, sample)
            title = f"{result.title(part)}: {KINDS[kind]}"
            tiles.append(Tile(_picture(record, mark), title, "\n".join((record.key, *record.metadata.texts)), mark))
    out.parent.mkdir(parents=True, exist_ok=True)
    names = " and ".join(dict.fromkeys(part.folder.resolve().name for part in result.parts))
    write_sheet(out, tiles, columns=4, heading=f"Duplicates in {names}" if tiles else f"No duplicates in {names}")


def _parts(folder: Path) -> Iterator[AuditedSplit]:
    manifest = load_manifest(folder)
    for name, split in manifest.splits.items():
        yield AuditedSplit(folder, name, split.shards, manifest.max_pixels or MAX_PIXELS, len(manifest.classes))


def _look_alike(rows: NDArray[np.void], part: NDArray[np.int64], parts: int) -> Pairs:
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("comparing pictures")
        return near_duplicates(
            rows, part, parts, tell=lambda done, total: progress.update(bar, completed=done, total=total)
        )


def _where(result: Audit, sample: int) -> str:
    part, shard, row = result.place(sample)
    return f"{shard.name}: {load_index(part.folder / shard.name, shard, part.classes).key(row)}"


def _record(result: Audit, sample: int) -> Record:
    part, shard, row = result.place(sample)
    file = open_tar(part.folder, shard, load_mount(part.folder))
    try:
        index = load_index(part.folder / shard.name, shard, part.classes)
        return read_record(index, row, lambda span: os.pread(file, span[1], span[0]), _where(result, sample))
    finally:
        os.close(file)


def _picture(record: Record, mark: str | None) -> Image.Image | str:
    if record.image is None:
        return "no picture"
    try:
        return tile_picture(record.image, mark=mark)
    except UnusableImage as error:
        return str(error)
