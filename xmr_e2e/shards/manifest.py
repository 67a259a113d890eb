"""`manifest.json`: what a folder of shards holds. It is written last, so a folder without one is no dataset."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.received import parse_json, shortened
from xmr_e2e.shards.schema import MODALITIES

FORMAT = "xmr-shards"
VERSION = 2
NAME = "manifest.json"
WORKSHOP = ".building"
"""The folder within the dataset's, in which shards grow until the build is complete."""
EXTENSION = ".extending"
"""The folder within the dataset's that keeps the manifest while its shards get one member more."""
REMOTE = "remote.json"
"""The file within the folder that says where the tars of a mounted dataset lie."""


@dataclass(frozen=True)
class Shard:
    """One tar of a split: its file name, its number of samples, its size in bytes and its sha256."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of one split in the order of their samples' positions, and what occurs in it how often."""

    shards: tuple[Shard, ...]
    labels: dict[str, int]
    """class -> number of samples"""
    modalities: dict[str, int]
    """modality -> number of samples that have it, raw or as features; those that none has are left out"""

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be used, and why."""

    source: str
    """the id in the publisher's files; of adopted tars, TAR/KEY"""
    split: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """A dataset in shards."""

    dataset: str
    classes: tuple[str, ...]
    multi_label: bool
    splits: dict[str, Split]
    required: tuple[str, ...] = ("image", "text")
    """the modalities that each sample has; with none, each has any"""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """modality -> shape (d,) of its published features; "regions" -> shape (r, d) of each picture's regions"""
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    """what the builder repaired or left out on purpose"""
    options: dict[str, Any] = field(default_factory=dict)
    """the build options that shape the bytes"""
    fingerprint: str = ""
    """of the build's whole input, by which a repeated build knows that there is nothing to do"""
    adopted: bool = False
    """the tars were made by another tool: their keys are unique over a split, but need not ascend"""
    extended: dict[str, str] = field(default_factory=dict)
    """member that was added after the build -> how it was made"""

    def left_out(self, shard: str) -> frozenset[str]:
        """The keys of an adopted tar's samples that cannot be used; a shard that was built holds none."""
        places = (item.source.partition("/") for item in self.skipped if self.adopted)
        return frozenset(key for tar, _, key in places if tar == shard)

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that occur, in the order of MODALITIES."""
        present = {name for split in self.splits.values() for name in split.modalities}
        return tuple(name for name in MODALITIES if name in present)

    @property
    def widths(self) -> dict[str, int]:
        """Modality -> width of its published features; "regions" -> that of the regions' features."""
        return {name: shape[-1] for name, shape in self.shapes.items()}

    def save(self, folder: Path) -> None:
        document = {"format": FORMAT, "version": VERSION, **asdict(self)}
        for name, split in self.splits.items():
            document["splits"][name]["samples"] = split.samples
        write_atomically(folder / NAME, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())


def load_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        XmrError: no manifest (the message says whether something was left unfinished), or one that this version
            cannot read.
    """
    path = folder / NAME
    if not path.exists():
        advice = "build the shards first"
        if (folder / WORKSHOP).exists():
            advice = "a build was left unfinished here: run the builder again"
        elif (folder / EXTENSION / NAME).exists():
            advice = "the shards were being extended: run that command again, it goes on where it stopped"
        elif (folder / REMOTE).exists():
            advice = "a mount was left unfinished here: run `xmr shards mount` again"
        elif url := _url_of(folder):
            raise XmrError(f"{url}: shards that lie elsewhere are mounted first: `xmr shards mount {url} FOLDER`; "
                           "then give FOLDER")  # fmt: skip
        raise XmrError(f"{path} does not exist: {advice}")
    return read_manifest(path)


def _url_of(folder: Path) -> str:
    """The URL that was given as a folder, which has cost it a slash; empty if none was."""
    scheme, colon, rest = str(folder).partition(":")
    if not colon or not re.fullmatch("[a-z][a-z0-9+.-]+", scheme):
        return ""
    if scheme == "pipe":
        return f"'{folder}'"
    return f"{scheme}:{'///' if scheme == 'file' else '//'}{rest[1:]}" if rest.startswith("/") else ""


def read_manifest(path: Path) -> Manifest:
    """Read a manifest's file. Raises XmrError as `load_manifest` does."""
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(content: bytes, path: str) -> Manifest:
    """Read a manifest's bytes, which come from this path or URL. Raises XmrError as `load_manifest` does."""
    try:
        document = parse_json(content, path)
        found = (document.pop("format"), document.pop("version"))
        if found != (FORMAT, VERSION):
            raise XmrError(
                f"{path}: format {shortened(found[0])} version {shortened(found[1])}; "
                f"this program reads {FORMAT} version {VERSION}. "
                "Build the shards again with --overwrite; tars of another tool: delete this file and adopt them again"
            )
        splits = {
            name: Split(tuple(Shard(**shard) for shard in split["shards"]), split["labels"], split["modalities"])
            for name, split in document.pop("splits").items()
        }
        skipped = tuple(Skipped(**item) for item in document.pop("skipped"))
        shapes = {name: tuple(shape) for name, shape in document.pop("shapes").items()}
        classes, required, notes = (tuple(document.pop(name)) for name in ("classes", "required", "notes"))
        return Manifest(
            classes=classes,
            splits=splits,
            required=required,
            shapes=shapes,
            skipped=skipped,
            notes=notes,
            **document,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise XmrError(f"{path}: not a valid manifest: {error!r}") from error


def count_labels(labels: list[tuple[str, ...]], classes: tuple[str, ...]) -> dict[str, int]:
    """How many samples carry each class, in the order of the classes."""
    counts = Counter(name for row in labels for name in row)
    return {name: counts[name] for name in classes}


def sum_modalities(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The shards' counts of modalities, together for a split."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return {name: total[name] for name in MODALITIES if total[name]}
