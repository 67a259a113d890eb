"""Verification of a folder of shards: everything that is wrong with it, not only the first thing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of
from xmr_e2e.shards.features import NAME_OF_MEMBER, UnusableFeatures, shape_of_features
from xmr_e2e.shards.index import ShardIndex, load_index
from xmr_e2e.shards.manifest import Manifest, Shard, Split, count_labels, load_manifest, sum_modalities
from xmr_e2e.shards.media import MAX_PIXELS, UnusableImage, check_decodes
from xmr_e2e.shards.parallel import CPUS, map_shards
from xmr_e2e.shards.remote.mount import load_mount, open_tar
from xmr_e2e.shards.scan import Problem, scan_shard
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

CheckMedia = Callable[[str, str, bytes, str], None]
"""Called with a raw file's modality, extension and bytes, and with what its error, an XmrError, begins with. Other
processes call it, so it must be a function of a module, or what can be pickled."""


@dataclass(frozen=True)
class _Task:
    """One shard to look through."""

    path: Path
    expected: Shard
    manifest: Manifest
    left_out: frozenset[str]
    """keys"""
    check_media: CheckMedia | None

    @property
    def max_pixels(self) -> int:
        return self.manifest.max_pixels or MAX_PIXELS


@dataclass
class _Findings:
    """The real content of a shard, and what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    multi_label: bool = False


def verify(folder: Path, *, workers: int = CPUS, check_media: CheckMedia | None = None) -> list[Problem]:
    """Compare shards, indexes and manifest with each other, decode every image and read all features.

    The tars of a mounted folder are fetched for it, as far as they are not in the cache.

    Args:
        check_media: what decodes sounds, videos and shapes (`xmr_e2e.data.media_check`); without it, they are not
            looked into.

    Returns:
        All problems found, shard by shard; none means that the folder is whole.

    Raises:
        XmrError: the folder has no manifest, or one that cannot be read.
    """
    manifest = load_manifest(folder)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    # What was skipped can be long, and goes to each worker with each task.
    short = replace(manifest, skipped=(), notes=())
    tasks = [_Task(folder / shard.name, shard, short, manifest.left_out(shard.name), check_media) for shard in shards]
    sizes = [shard.samples for shard in shards]
    findings = map_shards(_verify_shard, tasks, sizes=sizes, title="verifying shards", workers=workers)

    problems = [problem for found in findings for problem in found.problems]
    found_in = {shard.name: found for shard, found in zip(shards, findings)}
    for name, split in manifest.splits.items():
        parts = [found_in[shard.name] for shard in split.shards]
        problems += _check_keys(split, parts, ascending=not manifest.adopted)
        problems += _check_counts(name, split, parts)
    if any(found.multi_label for found in findings) and not manifest.multi_label:
        problems.append(Problem("manifest.json", "", "multi_label is false, but some samples have several labels"))
    return problems


def _verify_shard(task: _Task) -> _Findings:
    found = _Findings()
    manifest = task.manifest
    try:
        with _open_tar(task) as tar:
            found.problems += _check_file(task, tar)
            index, metadata = scan_shard(
                tar, manifest.classes, required=manifest.required, problems=found.problems, without=task.left_out
            )
            found.problems += _check_index(task, index)
            found.problems += _check_images(task, tar, index)
            found.problems += _check_media(task, tar, index)
            found.problems += _check_features(task, tar, index)
    except OSError as error:
        found.problems.append(Problem(task.path.name, "", f"cannot be read: {error.strerror}"))
        return found
    except XmrError as error:  # it cannot be fetched
        found.problems.append(Problem(task.path.name, "", str(error)))
        return found
    finally:
        # the open file's name is not the shard's
        found.problems = [replace(problem, shard=task.path.name) for problem in found.problems]
    found.keys = index.keys
    known = [tuple(manifest.classes[label] for label in row) for row in index.labels]
    found.labels = count_labels(known, manifest.classes)
    found.modalities = index.count_modalities()
    found.multi_label = any(len(item.labels) > 1 for item in metadata)
    return found


@contextmanager
def _open_tar(task: _Task) -> Iterator[Path]:
    """The tar to read. That of a mounted folder is fetched; it is read through its open file, since the cache may evict
    it meanwhile."""
    folder = task.path.parent
    file = open_tar(folder, task.expected, load_mount(folder))
    try:
        yield Path(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _check_file(task: _Task, tar: Path) -> Iterator[Problem]:
    size = tar.stat().st_size
    if size != task.expected.bytes:
        yield Problem(task.path.name, "", f"{size:,} bytes; the manifest says {task.expected.bytes:,}")
    elif sha256_of(tar) != task.expected.sha256:
        what = "the sha256 is not the manifest's: the content has changed"
        if not task.path.exists():
            what += f"; it is a copy of what is mounted, {tar.readlink()}: delete it, and it is fetched again"
        yield Problem(task.path.name, "", what)


def _check_index(task: _Task, found: ShardIndex) -> Iterator[Problem]:
    """The tar's own samples, against the index beside it and the manifest's count."""
    name = task.path.name
    if len(found) != task.expected.samples:
        yield Problem(name, "", f"{len(found)} samples; the manifest says {task.expected.samples}")
    try:
        beside = load_index(task.path, task.expected, len(task.manifest.classes))
    except XmrError as error:
        yield Problem(name, "", str(error))
        return
    rows = {key: row for row, key in enumerate(found.keys)}
    for key in beside.keys:
        if key not in rows:
            yield Problem(name, key, "in the index, but not in the tar")
    for key in rows.keys() - set(beside.keys):
        yield Problem(name, key, "in the tar, but not in the index")
    pairs = [(key, row, rows[key]) for row, key in enumerate(beside.keys) if key in rows]
    moved = [key for key, row, own in pairs if _row(beside, row) != _row(found, own)]
    if moved:
        yield Problem(
            name,
            moved[0],
            f"the index differs from the tar in members, places, texts or labels; so in {len(moved)} samples",
        )
    elif beside.keys != found.keys and len(pairs) == len(found):
        yield Problem(name, "", "the index has the samples in another order than the tar")


def _row(index: ShardIndex, row: int) -> tuple[object, ...]:
    spans = {extension: tuple(spans[row]) for extension, spans in index.members.items() if spans[row, 0] >= 0}
    return index.labels_of(row), int(index.texts[row]), spans


def _check_images(task: _Task, tar: Path, index: ShardIndex) -> Iterator[Problem]:
    for key, extension, data in _read_members(tar, index, index.image_extensions):
        try:
            check_decodes(data, max_pixels=task.max_pixels)
        except UnusableImage as error:
            yield Problem(task.path.name, key, f".{extension}: {error}")


def _check_media(task: _Task, tar: Path, index: ShardIndex) -> Iterator[Problem]:
    """Decode sounds, videos and shapes, if something can."""
    if task.check_media is None:
        return
    modality_of = {extension: modality for modality, known in MEDIA_EXTENSIONS.items() for extension in known}
    present = [extension for extension in modality_of if extension in index.members]
    for key, extension, data in _read_members(tar, index, present):
        try:
            task.check_media(modality_of[extension], extension, data, f".{extension}")
        except XmrError as error:
            yield Problem(task.path.name, key, str(error))


def _check_features(task: _Task, tar: Path, index: ShardIndex) -> Iterator[Problem]:
    for key, member, data in _read_members(tar, index, sorted(NAME_OF_MEMBER.keys() & index.members.keys())):
        expected = task.manifest.shapes.get(NAME_OF_MEMBER[member], "none")
        try:
            shape = shape_of_features(member, data)
        except UnusableFeatures as error:
            yield Problem(task.path.name, key, f".{member}: {error}")
            continue
        if shape != expected:
            yield Problem(task.path.name, key, f".{member}: features of shape {shape}; the manifest says {expected}")


def _read_members(path: Path, index: ShardIndex, extensions: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Key, extension and bytes of all members with these extensions, sample by sample."""
    with open(path, "rb") as stream:
        for row, key in enumerate(index.keys):
            for extension in extensions:
                span = index.span(extension, row)
                if span:
                    stream.seek(span[0])
                    yield key, extension, stream.read(span[1])


def _check_keys(split: Split, parts: Sequence[_Findings], *, ascending: bool) -> Iterator[Problem]:
    """Uniqueness and order of the keys over the whole split."""
    shard_of: dict[str, str] = {}
    previous = ""
    for shard, found in zip(split.shards, parts):
        for key in found.keys:
            if key in shard_of:
                yield Problem(shard.name, key, f"the key is also in {shard_of[key]}")
            elif ascending and key < previous:
                yield Problem(shard.name, key, f"out of order: comes after {previous}")
            shard_of.setdefault(key, shard.name)
            previous = key


def _check_counts(name: str, split: Split, parts: Sequence[_Findings]) -> Iterator[Problem]:
    """Check the number of samples that carry each class and that have each modality."""
    if [len(found.keys) for found in parts] != [shard.samples for shard in split.shards]:
        return  # already told shard by shard; the counts can only differ, too
    for label, expected in split.labels.items():
        count = sum(found.labels.get(label, 0) for found in parts)
        if count != expected:
            yield Problem(name, "", f"{count} samples are labelled {label!r}; the manifest says {expected}")
    counts = sum_modalities(found.modalities for found in parts)
    for modality in dict.fromkeys((*counts, *split.modalities)):
        count, expected = counts.get(modality, 0), split.modalities.get(modality, 0)
        if count != expected:
            yield Problem(name, "", f"{count} samples have {modality}; the manifest says {expected}")
