"""The files that an audit writes: a table of all duplicates, and a list of the samples to leave out of a build."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xmr_e2e.escape import csv_cell
from xmr_e2e.shards.audit.audit import KINDS, Audit
from xmr_e2e.shards.audit.duplicates import groups_of
from xmr_e2e.shards.index import load_index
from xmr_e2e.shards.record import read_metadata
from xmr_e2e.shards.remote.mount import load_mount, open_tar
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

KEPT_FIRST = ("test", "val", "train")
"""Splits in the order in which a group of duplicates is left to them: what is measured stays as it is."""
COLUMNS = ("group", "kind", "split", "left_out", "folder", "shard", "key", "source")


@dataclass(frozen=True)
class Group:
    """Samples that are the same, or look the same, each with some other of them."""

    kind: str
    samples: tuple[int, ...]
    left_out: frozenset[int]
    """those without which the group lies in one split"""


@dataclass(frozen=True)
class _Place:
    """The location of a sample."""

    split: str
    folder: str
    shard: str
    key: str
    source: str


def find_groups(result: Audit) -> list[Group]:
    """All groups of duplicates: of pictures (the same, or alike), of other files, and of texts."""
    total = sum(part.samples for part in result.parts)
    near = {int(number) for links in result.found["look"].links for number in links.ravel()}
    pictures = groups_of([*result.found["picture"].links, *result.found["look"].links], total)
    found = [("picture" if near.isdisjoint(samples) else "look", samples) for samples in pictures]
    for kind in (*MEDIA_EXTENSIONS, "texts"):
        if kind in result.found:
            found += [(kind, samples) for samples in groups_of(result.found[kind].links, total)]
    return [Group(KINDS[kind], tuple(samples), _left_out(result, samples)) for kind, samples in found]


def _left_out(result: Audit, samples: Sequence[int]) -> frozenset[int]:
    split_of = {sample: result.place(sample)[0].split for sample in samples}
    kept = min(split_of.values(), key=KEPT_FIRST.index)
    return frozenset(sample for sample, split in split_of.items() if split != kept)


def table_of_duplicates(result: Audit) -> str:
    """A CSV table with a row for each sample of each group."""
    groups = find_groups(result)
    places = _places(result, {sample for group in groups for sample in group.samples})
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for number, group in enumerate(groups, start=1):
        for sample in group.samples:
            place, left_out = places[sample], "yes" if sample in group.left_out else "no"
            writer.writerow([number, group.kind, place.split, left_out, *_last_columns(place)])
    return text.getvalue()


def _last_columns(place: _Place) -> tuple[str, ...]:
    return tuple(map(csv_cell, (place.folder, place.shard, place.key, place.source)))


def exclude_list(result: Audit) -> list[str]:
    """The keys of the samples without which no group of duplicates lies in two splits."""
    samples = {sample for group in find_groups(result) for sample in group.left_out}
    return [place.key for place in _places(result, samples).values()]


def _places(result: Audit, samples: set[int]) -> Mapping[int, _Place]:
    """The locations of these samples; each shard is opened once."""
    return {
        sample: place
        for _, numbers in itertools.groupby(sorted(samples), key=lambda sample: _shard_of(result, sample))
        for sample, place in _read_places(result, list(numbers))
    }


def _shard_of(result: Audit, sample: int) -> tuple[str, str]:
    part, shard, _ = result.place(sample)
    return str(part.folder), shard.name


def _read_places(result: Audit, samples: Sequence[int]) -> Iterator[tuple[int, _Place]]:
    """Of samples in one shard."""
    part, shard, _ = result.place(samples[0])
    index = load_index(part.folder / shard.name, shard, part.classes)
    file = open_tar(part.folder, shard, load_mount(part.folder))
    try:
        for sample in samples:
            row = result.place(sample)[2]
            key = index.key(row)
            where = f"{part.folder / shard.name}: {key}"
            source = read_metadata(index, row, lambda span: os.pread(file, span[1], span[0]), where).source
            yield sample, _Place(part.split, str(part.folder), shard.name, key, source)
    finally:
        os.close(file)
