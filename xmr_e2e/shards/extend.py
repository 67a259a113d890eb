"""One member more for the samples of a dataset that is already built, such as a detector's regions.

The shards are written again one by one, in place: beside the dataset, only one shard more needs room. While that lasts,
the manifest lies in `.extending`, so that nothing reads a dataset of which only a part has the new member; each shard
that is done has left its result file there, by which an interrupted extension goes on.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field

from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of, write_atomically
from xmr_e2e.received import parse, read_bytes
from xmr_e2e.shards.features import NAME_OF_MEMBER, UnusableFeatures, shape_of_features
from xmr_e2e.shards.index import Span, index_path
from xmr_e2e.shards.manifest import (
    BUILD_DIR,
    EXTEND_DIR,
    NAME,
    REMOTE,
    Count,
    Manifest,
    Modality,
    Shape,
    Shard,
    Text,
    check_readable,
    load_manifest,
    own_folder,
    read_manifest,
    shard_file,
    sum_modalities,
)
from xmr_e2e.shards.parallel import map_shards
from xmr_e2e.shards.record import Record, read_record
from xmr_e2e.shards.scan import scan_shard
from xmr_e2e.shards.writer import write_shard

logger = logging.getLogger(__name__)

REQUEST = "request.json"
Request = Annotated[tuple[Text, ...], Field(min_length=2, max_length=2)]
"""The content of that file: the member that is being added, and a note on how it is made."""

Encode = Callable[[Sequence[Record]], Sequence[bytes | None]]
"""The new member of each of these samples, such as `features.encode_regions` makes it; None where it gets none."""
Kind = TypeVar("Kind")
_NO_RESULT = "so the extension that was begun here cannot go on; build or fetch the shards again"


@dataclass(frozen=True)
class _Result:
    """The result file of a shard that is done."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    shard: Shard
    modalities: dict[Modality, Count]
    shape: Shape | None


def extend_shards(
    folder: Path, member: str, encode: Encode, *, batch: int, note: str, overwrite: bool = False
) -> Manifest:
    """Add one member to the samples of a folder of shards; return the new manifest.

    Interrupted, it is run again and goes on with the next shard. Run again when it is done, it does nothing.

    Args:
        member: the extension, such as "regions.safetensors": one of those in `features.NAME_OF_MEMBER`.
        encode: gets up to `batch` samples at a time, in the order of the shards, always of one shard.
        note: how the member is made, with all on which its bytes depend; kept in the manifest's `extended`.
        overwrite: replace the members of that name which were made in another way, or came with the dataset.

    Raises:
        XmrError: no dataset in `folder`, tars that another tool made, such members that were made in another way,
            another extension that is unfinished, files of one that are not of these shards, damaged shards, or features
            that differ in shape.
    """
    assert member in NAME_OF_MEMBER, member
    manifest = _manifest_to_extend(folder, member, note, overwrite)
    if manifest is None:
        logger.info("%s already has %s: nothing to do", folder, member)
        return load_manifest(folder)
    extension = _Extension(folder, manifest, member, encode, batch)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    to_do = [shard for shard in shards if shard.name not in extension.results]
    sizes = [shard.samples for shard in to_do]
    done = sum(shard.samples for shard in shards) - sum(sizes)
    map_shards(extension.extend, to_do, sizes=sizes, title=f"adding {member}", done=done, workers=1)
    extended = replace(extension.manifest_of_results(), extended={**manifest.extended, member: note})
    check_readable(extended, folder / NAME)
    extended.save(folder)
    shutil.rmtree(extension.workshop)
    return extended


def _manifest_to_extend(folder: Path, member: str, note: str, overwrite: bool) -> Manifest | None:
    """The manifest of the shards as they lie there, None if they are already extended; opens the workshop."""
    workshop = own_folder(folder, EXTEND_DIR)
    begun = not (folder / NAME).exists() and not (folder / BUILD_DIR).exists() and (workshop / NAME).exists()
    if begun:
        manifest = _resume(folder, member, note)
    else:
        manifest = load_manifest(folder)
        shutil.rmtree(workshop, ignore_errors=True)  # of an extension that had not yet changed anything, or was done
        _check_place(folder, manifest)
        if not overwrite and manifest.extended.get(member) == note:
            return None
        if not overwrite and NAME_OF_MEMBER[member] in manifest.shapes:
            made = manifest.extended.get(member, "they came with the dataset")
            raise XmrError(f"{folder} already has {member} ({made}); replace them with --overwrite")
        workshop.mkdir()
    write_atomically(workshop / REQUEST, json.dumps([member, note]).encode())
    return manifest


def _check_place(folder: Path, manifest: Manifest) -> None:
    if manifest.adopted:
        raise XmrError(f"{folder}: these tars were made by another tool and stay as they are; build shards of your own")
    if (folder / REMOTE).exists():
        raise XmrError(f"{folder} is mounted, its tars lie elsewhere; extend them there, then mount the folder again")


def _resume(folder: Path, member: str, note: str) -> Manifest:
    """The manifest of what an interrupted extension left. Shards that it made with another note are made again."""
    workshop = folder / EXTEND_DIR
    manifest = read_manifest(workshop / NAME)
    begun_member, begun_note = _read(Request, workshop, REQUEST)
    if begun_member != member:
        raise XmrError(f"{folder}: {begun_member} is being added ({begun_note}); run that command again first")
    results = _results(workshop, manifest)
    for name in results:
        _move_into_place(folder, name)
    if begun_note == note:
        return manifest
    logger.info("%s: begun in another way (%s); beginning again", folder, begun_note)
    splits = {
        name: replace(
            split,
            shards=tuple(results[shard.name].shard if shard.name in results else shard for shard in split.shards),
        )
        for name, split in manifest.splits.items()
    }
    manifest = replace(manifest, splits=splits)
    manifest.save(workshop)
    for name in results:
        (workshop / _result_name(name)).unlink()
    return manifest


def _result_name(shard: str) -> str:
    return f"{shard}.result.json"


def _results(workshop: Path, manifest: Manifest) -> dict[str, _Result]:
    """Shard -> its result, of those of the manifest's shards that are done.

    Raises:
        XmrError: a result of another shard than its file is called after.
    """
    results = {}
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        name = _result_name(shard.name)
        if (workshop / name).exists():
            results[shard.name] = _read(_Result, workshop, name)
            if results[shard.name].shard.name != shard.name:
                raise XmrError(f"{workshop / name}: shard.name: is not {shard.name}; {_NO_RESULT}")
    return results


def _read(kind: type[Kind], workshop: Path, name: str) -> Kind:
    path = shard_file(workshop, name)
    try:
        return parse(kind, read_bytes(path), str(path))
    except (XmrError, FileNotFoundError) as error:
        raise XmrError(f"{error}; {_NO_RESULT}") from error


def _move_into_place(folder: Path, shard: str) -> None:
    """Tar first, then index; what is already there is left."""
    workshop = folder / EXTEND_DIR
    for path in (shard_file(workshop, name) for name in (shard, index_path(workshop / shard).name)):
        if path.exists():
            os.replace(path, folder / path.name)


@dataclass
class _Extension:
    """One extension under way."""

    folder: Path
    manifest: Manifest
    member: str
    encode: Encode
    batch: int

    def __post_init__(self) -> None:
        self.workshop = self.folder / EXTEND_DIR
        self.results = _results(self.workshop, self.manifest)
        self.shape = next((result.shape for result in self.results.values() if result.shape), None)

    def extend(self, shard: Shard) -> None:
        """Write one shard again, with its index and then its result file, and put it in the place of the old one."""
        old, new = shard_file(self.folder, shard.name), self.workshop / shard.name
        if not old.exists() or sha256_of(old) != shard.sha256:
            raise XmrError(f"{old}: missing, or not what the manifest says; build the shards again with --overwrite")
        sha256 = write_shard(new, self._samples(old))
        index, _ = scan_shard(new, self.manifest.classes, required=self.manifest.required)
        write_atomically(index_path(new), index.encode())
        made = Shard(shard.name, len(index), new.stat().st_size, sha256)
        result = self.results[shard.name] = _Result(made, index.count_modalities(), self.shape)
        write_atomically(self.workshop / _result_name(shard.name), json.dumps(asdict(result)).encode())
        if (self.folder / NAME).exists():  # from here on, only the extended dataset is whole
            os.replace(self.folder / NAME, self.workshop / NAME)
        _move_into_place(self.folder, shard.name)

    def _samples(self, path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
        # Not the index beside it: what is written again must be what the tar itself holds.
        index, _ = scan_shard(path, self.manifest.classes, required=self.manifest.required)
        with open(path, "rb") as stream:

            def read(span: Span) -> bytes:
                stream.seek(span[0])
                return stream.read(span[1])

            for start in range(0, len(index), self.batch):
                rows = range(start, min(start + self.batch, len(index)))
                records = [read_record(index, row, read, f"{path}: {index.key(row)}") for row in rows]
                for row, record, data in zip(rows, records, self.encode(records), strict=True):
                    spans = {name: index.span(name, row) for name in index.members if name != self.member}
                    members = {name: read(span) for name, span in spans.items() if span}
                    if data is not None:
                        self._check(data, record.where)
                        members[self.member] = data
                    yield record.key, members

    def _check(self, data: bytes, where: str) -> None:
        try:
            shape = shape_of_features(self.member, data)
        except UnusableFeatures as error:
            raise XmrError(f"{where}: .{self.member}: {error}") from error
        if self.shape not in (None, shape):
            raise XmrError(f"{where}: .{self.member}: features of shape {shape}; others have {self.shape}")
        self.shape = shape

    def manifest_of_results(self) -> Manifest:
        splits = {}
        for name, split in self.manifest.splits.items():
            results = [self.results[shard.name] for shard in split.shards]
            shards = tuple(result.shard for result in results)
            splits[name] = replace(
                split, shards=shards, modalities=sum_modalities(result.modalities for result in results)
            )
        name = NAME_OF_MEMBER[self.member]
        shapes = {other: shape for other, shape in self.manifest.shapes.items() if other != name}
        return replace(self.manifest, splits=splits, shapes={**shapes, **({name: self.shape} if self.shape else {})})
