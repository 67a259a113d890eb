"""`manifest.json`: what a folder of shards holds. It is written last, so a folder without one is no dataset."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

FORMAT = "xmr-shards"
VERSION = 1
NAME = "manifest.json"
WORKSHOP = ".building"
"""The folder within the dataset's, in which shards grow until the build is complete."""


@dataclass(frozen=True)
class Shard:
    """One tar of a split: its file name, its number of samples, its size in bytes and its sha256."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of one split in the order of their samples' positions, and how often each class occurs in it."""

    shards: tuple[Shard, ...]
    labels: dict[str, int]

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be used, and why."""

    source: str
    split: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """A dataset in shards."""

    dataset: str
    classes: tuple[str, ...]
    multi_label: bool
    splits: dict[str, Split]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    """what the builder repaired or left out on purpose"""
    options: dict[str, Any] = field(default_factory=dict)
    """the build options that shape the bytes"""
    fingerprint: str = ""
    """of the build's whole input, by which a repeated build knows that there is nothing to do"""
    adopted: bool = False
    """the tars were made by another tool: their keys are unique over a split, but need not ascend"""

    def save(self, folder: Path) -> None:
        document = {"format": FORMAT, "version": VERSION, **asdict(self)}
        for name, split in self.splits.items():
            document["splits"][name]["samples"] = split.samples
        write_atomically(folder / NAME, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())


def load_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        XmrError: no manifest (the message says whether a build was left unfinished), or one that this version
            cannot read.
    """
    path = folder / NAME
    if not path.exists():
        unfinished = (folder / WORKSHOP).exists()
        advice = "a build was left unfinished here: run the builder again" if unfinished else "build the shards first"
        raise XmrError(f"{path} does not exist: {advice}")
    try:
        document = json.loads(path.read_bytes())
        found = (document.pop("format"), document.pop("version"))
        if found != (FORMAT, VERSION):
            raise XmrError(
                f"{path}: format {found[0]} version {found[1]}; this program reads {FORMAT} version {VERSION}"
            )
        splits = {
            name: Split(tuple(Shard(**shard) for shard in split["shards"]), split["labels"])
            for name, split in document.pop("splits").items()
        }
        skipped = tuple(Skipped(**item) for item in document.pop("skipped"))
        classes, notes = (tuple(document.pop(name)) for name in ("classes", "notes"))
        return Manifest(classes=classes, splits=splits, skipped=skipped, notes=notes, **document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise XmrError(f"{path}: not a valid manifest: {error!r}") from error


def count_labels(labels: list[tuple[str, ...]], classes: tuple[str, ...]) -> dict[str, int]:
    """How many samples carry each class, in the order of the classes."""
    counts = Counter(name for row in labels for name in row)
    return {name: counts[name] for name in classes}
