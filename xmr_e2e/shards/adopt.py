"""Index and manifest for WebDataset tars that another tool made, such as img2dataset. The tars stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of, write_atomically
from xmr_e2e.shards.features import NAME_OF_MEMBER, UnusableFeatures, shape_of_features
from xmr_e2e.shards.index import Problem, ShardIndex, index_path, scan_shard
from xmr_e2e.shards.manifest import NAME, Manifest, Shard, Split, load_manifest, sum_modalities
from xmr_e2e.shards.parallel import CPUS, map_shards

LISTED = 20


@dataclass(frozen=True)
class _Survey:
    """What one tar holds."""

    problems: list[Problem]
    keys: tuple[str, ...]
    labels: Counter[str]
    modalities: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    multi_label: bool


def adopt_shards(
    splits: Mapping[str, Sequence[Path]], *, dataset: str = "", workers: int = CPUS
) -> tuple[Path, Manifest]:
    """Write an index beside each tar and a manifest beside all of them.

    Nothing is written unless every tar is in order. Each sample must have an image and a text; other modalities and
    features that lie beside them are adopted, too. Images are not decoded: verify does that.

    Args:
        splits: split -> its tars, in the order of their samples' positions.
        dataset: its name; the folder's by default.

    Returns:
        The folder and its manifest.

    Raises:
        XmrError: no tars, tars in several folders, samples without image or text (with shard and key),
            a key twice in a split, or a dataset in this folder that was not adopted.
    """
    splits = {name: tuple(tars) for name, tars in splits.items() if tars}
    tars = [tar for tars in splits.values() for tar in tars]
    folder = _common_folder(tars)
    _check_place(folder)
    surveys = dict(zip(tars, map_shards(_survey, tars, sizes=[1] * len(tars), title="reading tars", workers=workers)))
    _refuse_problems([problem for survey in surveys.values() for problem in survey.problems])
    for name, members in splits.items():
        _check_keys(name, {tar: surveys[tar] for tar in members})

    empty = [tar for tar, survey in surveys.items() if not survey.keys]
    if empty:
        raise XmrError(f"{empty[0]} holds no samples; leave it out")

    classes = _order_classes({label for survey in surveys.values() for label in survey.labels})
    (folder / NAME).unlink(missing_ok=True)  # the old one must not stand beside new indexes
    tasks = [(tar, classes) for tar in tars]
    shards = dict(
        zip(tars, map_shards(_write_index, tasks, sizes=[1] * len(tars), title="writing indexes", workers=workers))
    )
    manifest = Manifest(
        dataset=dataset or folder.name,
        classes=classes,
        multi_label=any(survey.multi_label for survey in surveys.values()),
        splits={
            name: Split(
                tuple(shards[tar] for tar in members),
                {label: sum(surveys[tar].labels[label] for tar in members) for label in classes},
                sum_modalities(surveys[tar].modalities for tar in members),
            )
            for name, members in splits.items()
        },
        shapes={name: shape for survey in surveys.values() for name, shape in survey.shapes.items()},
        adopted=True,
    )
    manifest.save(folder)
    return folder, manifest


def _common_folder(tars: Sequence[Path]) -> Path:
    if not tars:
        raise XmrError("no tars were given")
    missing = [tar for tar in tars if not tar.is_file()]
    if missing:
        raise XmrError(f"{missing[0]} does not exist")
    folders = sorted({tar.resolve().parent for tar in tars})
    if len(folders) > 1:
        raise XmrError(f"all tars of a dataset lie in one folder; these lie in {folders[0]} and {folders[1]}")
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
    labels = Counter(label for item in metadata for label in item.labels)
    multi_label = any(len(item.labels) > 1 for item in metadata)
    return _Survey(problems, index.keys, labels, index.count_modalities(), _shapes(tar, index, problems), multi_label)


def _shapes(tar: Path, index: ShardIndex, problems: list[Problem]) -> dict[str, tuple[int, ...]]:
    """The shape of each kind of features, by the first sample that has them; verify holds the others against it."""
    shapes = {}
    with open(tar, "rb") as stream:
        for member in NAME_OF_MEMBER.keys() & index.members.keys():
            row = int((index.members[member][:, 0] >= 0).argmax())
            offset, size = index.members[member][row].tolist()
            stream.seek(offset)
            try:
                shapes[NAME_OF_MEMBER[member]] = shape_of_features(member, stream.read(size))
            except UnusableFeatures as error:
                problems.append(Problem(tar.name, index.key(row), f".{member}: {error}"))
    return shapes


def _refuse_problems(problems: Sequence[Problem]) -> None:
    if problems:
        lines = [f"  {problem}" for problem in problems[:LISTED]]
        if len(problems) > LISTED:
            lines.append(f"  … and {len(problems) - LISTED} more")
        raise XmrError("\n".join(["these tars cannot be adopted:", *lines]))


def _check_keys(split: str, surveys: Mapping[Path, _Survey]) -> None:
    tar_of: dict[str, Path] = {}
    for tar, survey in surveys.items():
        for key in survey.keys:
            if key in tar_of:
                raise XmrError(
                    f"{tar}: {key}: the key is also in {tar_of[key]}; keys are unique over a split ({split})"
                )
            tar_of[key] = tar


def _order_classes(names: set[str]) -> tuple[str, ...]:
    """Numbers in the order of their value, words in the alphabet's."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _write_index(task: tuple[Path, tuple[str, ...]]) -> Shard:
    tar, classes = task
    index, _ = scan_shard(tar, classes)
    write_atomically(index_path(tar), index.encode())
    return Shard(tar.name, len(index), tar.stat().st_size, sha256_of(tar))
