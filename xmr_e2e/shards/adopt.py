"""Index and manifest for WebDataset tars that another tool made, such as img2dataset. The tars stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.files import sha256_of, write_atomically
from xmr_e2e.shards.features import NAME_OF_MEMBER, UnusableFeatures, shape_of_features
from xmr_e2e.shards.index import ShardIndex, index_path
from xmr_e2e.shards.manifest import (
    NAME,
    Manifest,
    Shard,
    Skipped,
    Split,
    check_classes,
    check_readable,
    load_manifest,
    shard_file,
    sum_modalities,
)
from xmr_e2e.shards.parallel import CPUS, map_shards
from xmr_e2e.shards.scan import Problem, scan_shard
from xmr_e2e.shards.schema import IMAGE_EXTENSIONS

LISTED = 20


@dataclass(frozen=True)
class _Survey:
    """The content of one tar."""

    problems: list[Problem]
    """of the tar as a whole"""
    unusable: dict[str, str]
    """key -> why the sample is left out"""
    several_images: tuple[str, ...]
    """keys"""
    unlabeled: tuple[str, ...]
    """keys"""
    keys: tuple[str, ...]
    labels: Counter[str]
    modalities: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    multi_label: bool


def adopt_shards(
    splits: Mapping[str, Sequence[Path]], *, dataset: str = "", max_skipped: float = 0.01, workers: int = CPUS
) -> tuple[Path, Manifest]:
    """Write an index beside each tar and a manifest beside all of them.

    Nothing is written unless every tar is in order. Each sample must have an image and a text; those that have not are
    left out of the index, and named in the manifest. Other modalities and features that lie beside them are adopted,
    too. Images are not decoded: verify does that.

    Args:
        splits: split -> its tars, in the order of their samples' positions.
        dataset: its name; the folder's by default.
        max_skipped: the largest share of the samples that may be left out.

    Returns:
        The folder and its manifest.

    Raises:
        XmrError: no tars, tars in several folders, compressed or damaged tars, too many samples that cannot be used
            (with shard and key), a key in two tars of a split, or a dataset in this folder that was not adopted.
    """
    if not 0 <= max_skipped <= 1:
        raise XmrError(f"--max-skipped is a share between 0 and 1, not {max_skipped}")
    splits = {name: tuple(tars) for name, tars in splits.items() if tars}
    tars = [tar for tars in splits.values() for tar in tars]
    folder = _common_folder(tars)
    _check_place(folder)
    surveys = dict(zip(tars, map_shards(_survey, tars, sizes=[1] * len(tars), title="reading tars", workers=workers)))
    _refuse_problems([problem for survey in surveys.values() for problem in survey.problems])
    skipped = tuple(
        Skipped(f"{tar.name}/{key}", name, reason)
        for name, members in splits.items()
        for tar in members
        for key, reason in surveys[tar].unusable.items()
    )
    _check_budget(skipped, sum(len(survey.keys) + len(survey.unusable) for survey in surveys.values()), max_skipped)
    for name, members in splits.items():
        _check_keys(name, {tar: surveys[tar] for tar in members})

    empty = [tar for tar, survey in surveys.items() if not survey.keys]
    if empty:
        raise XmrError(f"{empty[0]} holds no samples that can be used; leave it out")

    names = {label for survey in surveys.values() for label in survey.labels}
    check_classes(sorted(names))
    classes = order_classes(names)
    about = {tar: Shard(tar.name, len(survey.keys), tar.stat().st_size, "0" * 64) for tar, survey in surveys.items()}
    manifest = Manifest(
        dataset=dataset or folder.name,
        classes=classes,
        multi_label=any(survey.multi_label for survey in surveys.values()),
        splits={
            name: Split(
                tuple(about[tar] for tar in members),
                {label: sum(surveys[tar].labels[label] for tar in members) for label in classes},
                sum_modalities(surveys[tar].modalities for tar in members),
            )
            for name, members in splits.items()
        },
        shapes={name: shape for survey in surveys.values() for name, shape in survey.shapes.items()},
        skipped=skipped,
        notes=tuple(_notes(splits, surveys, classes)),
        adopted=True,
    )
    check_readable(manifest, folder / NAME)
    (folder / NAME).unlink(missing_ok=True)  # the old one must not stand beside new indexes
    tasks = [(tar, classes, frozenset(surveys[tar].unusable)) for tar in tars]
    written = map_shards(_write_index, tasks, sizes=[1] * len(tars), title="writing indexes", workers=workers)
    shards = dict(zip(tars, written))
    whole = {
        name: replace(split, shards=tuple(shards[tar] for tar in splits[name]))
        for name, split in manifest.splits.items()
    }
    manifest = replace(manifest, splits=whole)
    manifest.save(folder)
    return folder, manifest


def _common_folder(tars: Sequence[Path]) -> Path:
    if not tars:
        raise XmrError("no tars were given")
    missing = [tar for tar in tars if not tar.is_file()]
    if missing:
        raise XmrError(f"{missing[0]} does not exist")
    folders = sorted({tar.parent.resolve() for tar in tars})
    if len(folders) > 1:
        raise XmrError(f"all tars of a dataset lie in one folder; these lie in {folders[0]} and {folders[1]}")
    for tar in tars:
        shard_file(tar.parent, tar.name)
        if not tar.name.endswith(".tar"):  # two that differed in their endings alone would share an index
            raise XmrError(f"{tar}: the name must end in .tar; rename the file")
    twice = [tar for tar, times in Counter(tar.name for tar in tars).items() if times > 1]
    if twice:
        raise XmrError(f"{twice[0]} is given twice; a tar belongs to one split")
    return folders[0]


def _check_place(folder: Path) -> None:
    if (folder / NAME).exists() and not load_manifest(folder).adopted:
        raise XmrError(f"{folder} already holds a dataset built by this program; its tars need no adopting")


def _survey(tar: Path) -> _Survey:
    problems: list[Problem] = []
    index, metadata = scan_shard(tar, problems=problems)
    shapes = _shapes(tar, index, problems)
    unusable: dict[str, str] = {}
    for problem in problems:
        if problem.key:
            unusable.setdefault(problem.key, problem.what)
    if unusable:
        index, metadata = scan_shard(tar, problems=[], without=unusable)
    labels = Counter(label for item in metadata for label in item.labels)
    multi_label = any(len(item.labels) > 1 for item in metadata)
    return _Survey(
        problems=[problem for problem in problems if not problem.key],
        unusable=unusable,
        several_images=tuple(index.key(int(row)) for row in np.flatnonzero(index.several_images())),
        unlabeled=tuple(key for key, item in zip(index.keys, metadata) if not item.labels),
        keys=index.keys,
        labels=labels,
        modalities=index.count_modalities(),
        shapes=shapes,
        multi_label=multi_label,
    )


def _shapes(tar: Path, index: ShardIndex, problems: list[Problem]) -> dict[str, tuple[int, ...]]:
    """The shape of each kind of features, by the first sample whose features can be used; verify holds the others
    against it."""
    shapes = {}
    with open(tar, "rb") as stream:
        for member in NAME_OF_MEMBER.keys() & index.members.keys():
            for row in np.flatnonzero(index.members[member][:, 0] >= 0).tolist():
                offset, size = index.members[member][row].tolist()
                stream.seek(offset)
                try:
                    shapes[NAME_OF_MEMBER[member]] = shape_of_features(member, stream.read(size))
                    break
                except UnusableFeatures as error:
                    problems.append(Problem(tar.name, index.key(row), f".{member}: {error}"))
    return shapes


def _refuse_problems(problems: Sequence[Problem]) -> None:
    if problems:
        raise XmrError("\n".join(["these tars cannot be adopted:", *_some([str(problem) for problem in problems])]))


def _check_budget(skipped: Sequence[Skipped], total: int, allowed: float) -> None:
    if len(skipped) > allowed * total:
        lines = [": ".join((*item.source.split("/", 1), item.reason)) for item in skipped]
        raise XmrError("\n".join([
            f"{len(skipped)} of {total} samples cannot be used, more than --max-skipped {allowed} allows:",
            *_some(lines),
            "Mend them, or allow more with --max-skipped: they are left out then",
        ]))  # fmt: skip


def _some(lines: Sequence[str]) -> list[str]:
    rest = [f"  … and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [*(f"  {one_line(line)}" for line in lines[:LISTED]), *rest]


def _notes(
    splits: Mapping[str, Sequence[Path]], surveys: Mapping[Path, _Survey], classes: Sequence[str]
) -> Iterator[str]:
    """Notes on what is taken and may not be what was meant."""
    order = ", ".join(f".{extension}" for extension in IMAGE_EXTENSIONS)
    for tar, survey in surveys.items():
        keys = survey.several_images
        if keys:
            what = f"{len(keys)} samples hold several images"
            yield f"{tar.name}: {what} ({keys[0]} first); the first of {order} is taken"
    for split, tars in splits.items():
        unlabeled = [f"{tar.name}/{key}" for tar in tars for key in surveys[tar].unlabeled]
        if unlabeled and classes:
            count = sum(len(surveys[tar].keys) for tar in tars)
            yield f"{split}: {len(unlabeled)} of {count} samples have no label ({unlabeled[0]} first)"


def _check_keys(split: str, surveys: Mapping[Path, _Survey]) -> None:
    tar_of: dict[str, Path] = {}
    for tar, survey in surveys.items():
        for key in survey.keys:
            if key in tar_of:
                raise XmrError(
                    f"{tar}: {key}: the key is also in {tar_of[key]}; keys are unique over a split ({split})"
                )
            tar_of[key] = tar


def order_classes(names: set[str]) -> tuple[str, ...]:
    """Numbers in the order of their value, words in the alphabet's."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _write_index(task: tuple[Path, tuple[str, ...], frozenset[str]]) -> Shard:
    tar, classes, unusable = task
    index, _ = scan_shard(tar, classes, without=unusable)
    write_atomically(index_path(tar), index.encode())
    return Shard(tar.name, len(index), tar.stat().st_size, sha256_of(tar))
