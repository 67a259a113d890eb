"""Raw samples to a folder of shards: in parallel, resumable, the same bytes each time.

Which sample goes into which shard is decided before any image is opened, so each shard can be made alone, in any order,
by any number of processes on any number of machines, and a build that was interrupted goes on where it stopped. Shards
grow in `OUT/.building` (`shards.workshop`) and the manifest comes last: what has a manifest is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.shards.audit.exclude import exclude_listed
from xmr_e2e.shards.build_directory import BuildDirectory, Partition
from xmr_e2e.shards.make_shard import Made, ShardTask, make_shard, read_result
from xmr_e2e.shards.manifest import (
    BUILD_DIR,
    NAME,
    VERSION,
    Manifest,
    Shard,
    Skipped,
    Split,
    check_classes,
    check_readable,
    load_manifest,
    sum_modalities,
)
from xmr_e2e.shards.media import MAX_PIXELS, PILLOW_MAX_PIXELS
from xmr_e2e.shards.parallel import CPUS, map_shards
from xmr_e2e.shards.raw import (
    MediaPreparation,
    RawSample,
    check_samples,
    check_within,
    fingerprint_of,
)
from xmr_e2e.shards.schema import MODALITIES, SPLITS, key_of

logger = logging.getLogger(__name__)

LISTED = 20
"""How many of the unusable samples an error names."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build of shards."""

    resize: int | None = None
    """re-encode images with their shorter side at this many pixels; by default the original bytes are kept"""
    shard_samples: int = 500
    """samples per shard"""
    max_skipped: float = 0.01
    """the build fails when a larger share of the samples than this cannot be used"""
    max_pixels: int = MAX_PIXELS
    """images with more pixels than this are not decoded and count as unusable"""
    workers: int = CPUS
    """processes that build shards"""
    part: str = "0/1"
    """make this part of the shards only, INDEX/COUNT: 0/8 to 7/8 for eight machines that share OUT. The part that ends
    last puts all shards in place, as one build would"""
    overwrite: bool = False
    """replace the dataset that lies in OUT"""
    exclude: Path | None = None
    """a text file with a sample's source or key a line, such as `xmr shards audit --exclude` writes: these samples are
    left out"""
    outside: bool = False
    """take files that lie outside of RAW, where links in it lead: only if the links are yours"""

    def shaping_bytes(self) -> dict[str, int | None]:
        """The options on which the shards' bytes depend."""
        return {"resize": self.resize, "shard_samples": self.shard_samples, "max_pixels": self.max_pixels}


def build_shards(
    out: Path,
    *,
    dataset: str,
    classes: Sequence[str],
    samples: Sequence[RawSample],
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
    required: Sequence[str] = ("image", "text"),
    raw: Path | None = None,
    options: BuildOptions = BuildOptions(),
    media: MediaPreparation | None = None,
) -> Manifest | None:
    """Write shards, their indexes and the manifest to `out`; return the manifest.

    None where `options.part` is a part that has made its share, and other parts have not.

    Args:
        classes: all class names, in the order of their ids.
        skipped: what the caller already found unusable; it counts against `options.max_skipped` like the rest.
        notes: what the caller repaired or left out on purpose.
        required: the modalities that each sample must have, raw or as features; a sample without one of them cannot
            be used. With none, a sample must have any.
        raw: the folder out of which no file and no link in it may lead, unless `options.outside`.
        media: what decodes sounds, videos and shapes, in the processes that build; without it, these are stored as
            they are, whatever they are.

    Raises:
        XmrError: no samples, a file outside of `raw`, duplicate sources, features of a modality that differ in width,
            a split in which no sample is left, too many unusable samples, or another dataset in `out`.
    """
    if not samples:
        raise XmrError(f"no samples were found: there is nothing to build\n{_list_skipped(skipped)}")
    shapes = check_samples(samples)
    check_classes(classes)
    if raw and not options.outside:
        check_within(raw, samples)
    _check_options(options)
    if options.exclude:
        samples, skipped, excluded = exclude_listed(options.exclude, samples, skipped)
        notes = [*excluded, *notes]
    part = Partition.parse(options.part)
    required = tuple(name for name in MODALITIES if name in required)
    shaping = {**options.shaping_bytes(), **(media.shaping_bytes() if media else {})}
    fingerprint = _fingerprint(dataset, classes, samples, skipped, required, shaping)
    if not options.overwrite:
        present = _look_at_place(out, fingerprint)
        if present:
            logger.info("%s is already built from this input: nothing to do", out)
            return present
    workshop = BuildDirectory(out, fingerprint, part)
    workshop.open()
    tasks = [
        ShardTask(path, split, members, tuple(classes), required, options.resize, options.max_pixels, media)
        for path, split, members in _plan_shards(workshop.folder, samples, options.shard_samples)
    ]
    _make_missing(workshop, part.of(tasks), options.workers)
    if not _is_to_publish(workshop, tasks):
        return None
    try:
        results = [read_result(task) for task in tasks]
        all_skipped = [*skipped, *(item for result in results for item in result.skipped)]
        _check_budget(all_skipped, len(samples) + len(skipped), options.max_skipped)
        manifest = Manifest(
            dataset=dataset,
            classes=tuple(classes),
            multi_label=any(result.multi_label for result in results),
            splits=_splits(results, all_skipped, tuple(classes)),
            required=required,
            shapes=shapes,
            skipped=tuple(all_skipped),
            notes=(
                *notes_on_labels(samples, all_skipped),
                *notes,
                *(note for result in results for note in result.notes),
            ),
            options=shaping,
            fingerprint=fingerprint,
        )
        check_readable(manifest, out / NAME)
    except XmrError:
        workshop.release()
        raise
    workshop.publish(manifest)
    return manifest


def _check_options(options: BuildOptions) -> None:
    for name in ("shard_samples", "max_pixels", "workers", "resize"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise XmrError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if options.max_pixels > PILLOW_MAX_PIXELS:
        raise XmrError(f"--max-pixels must be at most {PILLOW_MAX_PIXELS}: Pillow refuses larger pictures")
    if not 0 <= options.max_skipped <= 1:
        raise XmrError(f"--max-skipped is a share between 0 and 1, not {options.max_skipped}")
    if options.overwrite and not Partition.parse(options.part).is_whole:
        raise XmrError("--part and --overwrite do not go together: remove the dataset that lies in OUT first")


def _fingerprint(
    dataset: str,
    classes: Sequence[str],
    samples: Sequence[RawSample],
    skipped: Sequence[Skipped],
    required: Sequence[str],
    shaping: Mapping[str, int | None],
) -> str:
    """A hash of all that the build depends on; `shaping` are the options on which bytes depend."""
    about = [VERSION, dataset, list(classes), list(required), shaping]
    digest = hashlib.sha256(json.dumps(about).encode())
    for sample in samples:
        digest.update(fingerprint_of(sample))
    digest.update(json.dumps([asdict(item) for item in skipped]).encode())
    return digest.hexdigest()


def _look_at_place(out: Path, fingerprint: str) -> Manifest | None:
    """The dataset in `out` if it is the one to build; None if there is room for it."""
    if (out / NAME).exists():
        present = load_manifest(out)
        if present.fingerprint == fingerprint:
            return present
        raise XmrError(f"{out} already holds the dataset {present.dataset!r}, made from other input or with other "
                       "options; choose another folder, or replace it with --overwrite")  # fmt: skip
    if not (out / BUILD_DIR).exists() and any(out.glob("*.tar")):
        raise XmrError(
            f"{out} holds tars that are not from a build; choose another folder, or replace them with --overwrite"
        )
    return None


def _plan_shards(
    folder: Path, samples: Sequence[RawSample], shard_samples: int
) -> Iterator[tuple[Path, str, tuple[RawSample, ...]]]:
    """The tar, the split and the samples of each shard."""
    for split in SPLITS:
        members = sorted(
            (sample for sample in samples if sample.split == split), key=lambda sample: key_of(sample.source)
        )
        for number, start in enumerate(range(0, len(members), shard_samples)):
            yield folder / f"{split}-{number:05d}.tar", split, tuple(members[start : start + shard_samples])


def _make_missing(workshop: BuildDirectory, tasks: Sequence[ShardTask], workers: int) -> None:
    """Make the shards that an interrupted build has not left behind whole."""
    missing = set(workshop.missing([task.path for task in tasks]))
    to_do = [task for task in tasks if task.path in missing]
    sizes = [len(task.samples) for task in to_do]
    done = sum(len(task.samples) for task in tasks) - sum(sizes)
    map_shards(make_shard, to_do, sizes=sizes, title="building shards", done=done, workers=workers)


def _is_to_publish(workshop: BuildDirectory, tasks: Sequence[ShardTask]) -> bool:
    """True if all shards are made, and no other part puts them in place."""
    missing = workshop.missing([task.path for task in tasks])
    if missing and not (workshop.out / NAME).exists():
        logger.info(
            "part %s is made; %d of all %d shards are still missing: the part that ends last puts all in place",
            *(workshop.part, len(missing), len(tasks)),
        )
        return False
    if not workshop.claim():
        logger.info(
            "part %s is made, and another part puts all shards in place; if that one was killed, run the builder once "
            "more without --part",
            workshop.part,
        )
        return False
    return True


def _check_budget(skipped: Sequence[Skipped], total: int, allowed: float) -> None:
    if len(skipped) > allowed * total:
        raise XmrError(
            f"{len(skipped)} of {total} samples cannot be used, more than --max-skipped {allowed} allows:\n"
            f"{_list_skipped(skipped)}\nMend them, or allow more with --max-skipped"
        )


def notes_on_labels(samples: Sequence[RawSample], skipped: Sequence[Skipped]) -> list[str]:
    """The number of samples without a label in each split, where any have none."""
    unusable = {item.source for item in skipped}
    used = [sample for sample in samples if sample.source not in unusable]
    without = [sample for sample in used if not sample.labels]
    if not without:
        return []
    if len(without) == len(used):
        return ["no sample has a label: contrastive training and figures by pairs need none, other methods do"]
    counts = Counter(sample.split for sample in without)
    of = Counter(sample.split for sample in used)
    parts = ", ".join(f"{counts[name]:,} of {of[name]:,} in {name}" for name in SPLITS if counts[name])
    return [f"samples without a label: {parts} (the first: {without[0].source}); most methods train by labels: give "
            "them some, or leave them out with --exclude"]  # fmt: skip


def _list_skipped(skipped: Sequence[Skipped]) -> str:
    lines = [f"  {one_line(f'{item.source} ({item.split}): {item.reason}')}" for item in skipped[:LISTED]]
    if len(skipped) > LISTED:
        lines.append(f"  … and {len(skipped) - LISTED} more")
    return "\n".join(lines)


def _splits(results: Sequence[Made], skipped: Sequence[Skipped], classes: tuple[str, ...]) -> dict[str, Split]:
    splits = {}
    for name in SPLITS:
        parts = [result for result in results if result.split == name]
        shards = tuple(Shard(**asdict(part.shard)) for part in parts if part.shard.samples)
        labels = {label: sum(part.labels.get(label, 0) for part in parts) for label in classes}
        unusable = [item for item in skipped if item.split == name]
        if unusable and not shards:
            raise XmrError(f"no usable sample is left in the split {name!r}:\n{_list_skipped(unusable)}")
        if shards:
            splits[name] = Split(shards, labels, sum_modalities(part.modalities for part in parts))
    return splits
