"""Samples as they were found, before splits are drawn for them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xmr_e2e.shards.manifest import Skipped
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.shards.schema import FOREIGN_IMAGE_SUFFIXES, IMAGE_SUFFIXES, MEDIA_EXTENSIONS

UNSHOWN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Characters that would end a line, or that no terminal and no file takes."""


@dataclass(frozen=True)
class Found:
    """The samples of a folder. Without `has_splits`, the split of each sample is still to be drawn."""

    samples: list[RawSample]
    has_splits: bool
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    together: list[list[str]] = field(default_factory=list)
    """sources that belong into one split"""
    required: tuple[str, ...] = ("image", "text")
    """the modalities that each sample must have; none where they are not paired"""
    is_listed: bool = False
    """by a table"""


@dataclass
class Unused:
    """Files and folders that are passed over, by what is to be said of them."""

    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, name: str) -> None:
        self.names.setdefault(what, []).append(name)

    def add_foreign(self, path: Path, name: str) -> None:
        """A picture of a format that is not read."""
        self.add(f"pictures in {path.suffix.lower()} are not read and not used; convert them to JPEG", name)

    def notes(self) -> list[str]:
        """One line of each kind, with their number and an example."""
        return [f"{len(names)} {what}, such as {shown(min(names))}" for what, names in self.names.items()]


def modality_of(path: Path) -> str | None:
    """The modality of a file by its ending; None for one of no kind that is read, and for texts."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    found = (name for name, known in MEDIA_EXTENSIONS.items() if suffix.removeprefix(".") in known)
    return next(found, None) if suffix else None


def is_foreign(path: Path) -> bool:
    """True for the name of a picture in a format that is not read."""
    return path.suffix.lower() in FOREIGN_IMAGE_SUFFIXES


def shown(name: str) -> str:
    """A name as it can stand in a line."""
    return UNSHOWN.sub(lambda match: ascii(match[0])[1:-1], name)


def notes_on_names(classes: Iterable[str]) -> list[str]:
    """Class names that are the same but for case, spaces or the way in which accents are encoded."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if not groups:
        return []
    first = " and ".join(map(_spelled, groups[0]))
    return [f"{sum(map(len, groups))} class names differ in case, spaces or encoding alone, such as {first}"]


def _spelled(name: str) -> str:
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)
