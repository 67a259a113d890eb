"""The making of one shard: tar, index and, last of all, the result file that says that the shard is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ConfigDict

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.received import parse, read_bytes
from xmr_e2e.shards.build_directory import result_path
from xmr_e2e.shards.index import index_path
from xmr_e2e.shards.manifest import (
    ClassName,
    Count,
    Modality,
    Shard,
    Skipped,
    SplitName,
    Text,
    count_labels,
    shard_file,
)
from xmr_e2e.shards.raw import MediaPreparation, RawSample, UnusableSample, encode_sample
from xmr_e2e.shards.scan import scan_shard
from xmr_e2e.shards.schema import key_of
from xmr_e2e.shards.writer import write_shard


@dataclass(frozen=True)
class NewShard(Shard):
    """A shard, of which perhaps no sample could be used."""

    samples: Count


@dataclass(frozen=True)
class Made:
    """The result file of a shard that is made."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    split: SplitName
    shard: NewShard
    labels: dict[ClassName, Count]
    modalities: dict[Modality, Count]
    multi_label: bool
    skipped: tuple[Skipped, ...]
    notes: tuple[Text, ...]


@dataclass(frozen=True)
class ShardTask:
    """One shard to make."""

    path: Path
    split: str
    samples: tuple[RawSample, ...]
    classes: tuple[str, ...]
    required: tuple[str, ...]
    resize: int | None
    max_pixels: int
    media: MediaPreparation | None


def make_shard(task: ShardTask) -> None:
    """Write one shard, its index and then its result file, which says that the shard is whole."""
    skipped: list[Skipped] = []
    notes: list[str] = []
    sha256 = write_shard(task.path, _encode_samples(task, skipped, notes))
    index, metadata = scan_shard(task.path, task.classes, required=task.required)
    write_atomically(index_path(task.path), index.encode())
    shard = NewShard(task.path.name, len(index), task.path.stat().st_size, sha256)
    made = Made(
        split=task.split,
        shard=shard,
        labels=count_labels([item.labels for item in metadata], task.classes),
        modalities=index.count_modalities(),
        multi_label=any(len(item.labels) > 1 for item in metadata),
        skipped=tuple(skipped),
        notes=tuple(notes),
    )
    write_atomically(result_path(task.path), json.dumps(asdict(made)).encode())


def read_result(task: ShardTask) -> Made:
    """The result that `make_shard` has written. Raises XmrError where it is of another shard."""
    path = shard_file(task.path.parent, result_path(task.path).name)
    made = parse(Made, read_bytes(path), str(path))
    if (made.split, made.shard.name) != (task.split, task.path.name):
        raise XmrError(f"{path}: not of this shard; remove {task.path.parent}")
    return made


def _encode_samples(
    task: ShardTask, skipped: list[Skipped], notes: list[str]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    classes = frozenset(task.classes)
    for sample in task.samples:
        try:
            members = encode_sample(
                sample,
                notes,
                classes=classes,
                required=task.required,
                resize=task.resize,
                max_pixels=task.max_pixels,
                media=task.media,
            )
        except UnusableSample as error:
            skipped.append(Skipped(sample.source, sample.split, str(error)))
            continue
        yield key_of(sample.source), members
