"""A raw sample: what a builder hands over, and the members that it becomes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.received import read_bytes
from xmr_e2e.shards.features import UnusableFeatures, encode_features
from xmr_e2e.shards.media import IMAGE_BYTES, UnusableImage, check_decodes, decode_whole, resize_to_jpeg
from xmr_e2e.shards.schema import (
    FEATURE_MEMBERS,
    MEDIA_EXTENSIONS,
    MODALITIES,
    SPLITS,
    Metadata,
)

MEDIA_BYTES = 2**32
"""of a raw file that is no picture, at most"""


class UnusableSample(Exception):
    """A sample that cannot go into the shards, and why."""


class MediaPreparation(Protocol):
    """Decoders of sounds, videos and 3D shapes, which know more than shards do."""

    def prepare(
        self, modality: str, extension: str, data: bytes, where: str, *, resize: int | None
    ) -> tuple[str, bytes]:
        """The extension and the bytes to store of a raw file. Raises XmrError, which begins with `where`, for one that
        cannot be used."""

    def shaping_bytes(self) -> dict[str, int | None]:
        """The options on which the shards' bytes depend; none for those that store files as they are."""


class RawTree:
    """A folder of raw files, out of which nothing may lead: who made a list or a link in it may have named any file of
    the user's, whose content would then be in the shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._home = folder.resolve()
        self._holds: dict[Path, bool] = {}

    def holds(self, path: Path) -> bool:
        """True where the file lies in the folder, links followed, or is not there."""
        if path.parent not in self._holds:  # of many files in few folders
            self._holds[path.parent] = self._leads_in(path.parent)
        return self._holds[path.parent] and (not path.is_symlink() or self._leads_in(path))

    def check_links(self) -> None:
        """Raise XmrError if a link in the folder leads out of it."""
        folders = [self.folder]
        while folders:
            for entry in _entries(folders.pop()):
                if entry.is_symlink():
                    if not self._leads_in(Path(entry.path)):
                        raise self.error(entry.path)
                elif entry.is_dir():
                    folders.append(Path(entry.path))

    def error(self, what: str) -> XmrError:
        return XmrError(
            f"{what} leads out of {self.folder}; put the files themselves there. If whoever made the link may choose "
            "among all your files, as you may: --outside takes what lies elsewhere"
        )

    def _leads_in(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._home)
        except (OSError, RuntimeError, ValueError):  # links in a ring; zero bytes in a name
            return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder; none where nothing in it can be read, as in a disk's lost+found."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        if os.access(folder, os.X_OK):  # of files there, only the names cannot be read
            raise
        return []


@dataclass(frozen=True)
class RawSample:
    """One sample as it lies on the disk of whoever downloaded the dataset. It may lack any modality, but not all."""

    source: str
    """the id in the publisher's files; unique over the dataset"""
    split: str
    image: Path | None = None
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, compare=False, repr=False)
    """modality -> its published features (d,)"""
    media: Mapping[str, Path] = field(default_factory=dict, compare=False)
    """modality ("audio", "video" or "shape3d") -> its raw file, carried as it is"""
    where: str = field(default="", compare=False)
    """the place to look for it, where its files are copies for the time of the build"""

    @property
    def files(self) -> dict[str, Path]:
        """Modality -> its raw file, the image's before the others."""
        return {**({"image": self.image} if self.image else {}), **self.media}

    @property
    def place(self) -> str:
        """The place to look for it, for error messages: `where`, its image, another raw file, or else its source."""
        return self.where or str(next(iter(self.files.values()), self.source))


def check_samples(samples: Sequence[RawSample]) -> dict[str, tuple[int, ...]]:
    """Check what can be seen without opening any file; return the shape of the features of each modality.

    Raises:
        XmrError: an unknown split or modality, a source that appears twice, text that is not valid UTF-8, features
            of one modality that have different widths or are not vectors.
    """
    seen: dict[str, RawSample] = {}
    first_with: dict[str, RawSample] = {}
    for sample in samples:
        if sample.split not in SPLITS:
            raise XmrError(f"{sample.source}: split {sample.split!r} is none of {', '.join(SPLITS)}")
        if sample.source in seen:
            first = seen[sample.source]
            raise XmrError(f"duplicate sample {sample.source!r}: {first.place} (split {first.split}) and "
                           f"{sample.place} (split {sample.split}); each id may appear once")  # fmt: skip
        seen[sample.source] = sample
        _check_unicode(sample)
        _check_modalities(sample, first_with)
    return {name: first_with[name].features[name].shape for name in MODALITIES if name in first_with}


def check_within(raw: Path, samples: Sequence[RawSample]) -> None:
    """Raise XmrError for a link in the folder of raw files that leads out of it, or a sample's file outside of it."""
    folder = RawTree(raw)
    folder.check_links()
    for sample in samples:
        for path in sample.files.values():
            if not folder.holds(path):
                raise folder.error(f"{sample.source}: {path}")


def _check_unicode(sample: RawSample) -> None:
    try:
        "".join((sample.source, *sample.texts, *sample.labels)).encode()
    except UnicodeEncodeError as error:
        raise XmrError(
            f"{sample.source!a}: name, texts or labels are not valid UTF-8; rename or re-encode them"
        ) from error


def _check_modalities(sample: RawSample, first_with: dict[str, RawSample]) -> None:
    """Names of modalities, and the widths of features: all as in the first sample that has them."""
    for given, known in ((sample.features, MODALITIES), (sample.media, tuple(MEDIA_EXTENSIONS))):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise XmrError(f"{sample.source}: modality {unknown[0]!r} is none of {', '.join(known)}")
    for name, vector in sample.features.items():
        first = first_with.setdefault(name, sample)
        if vector.ndim != 1 or not vector.size:
            raise XmrError(f"{sample.source}: its {name} features have the shape {vector.shape}; wanted is a vector")
        if vector.size != first.features[name].size:
            raise XmrError(
                f"{first.source} has {first.features[name].size} {name} features, {sample.source} has {vector.size}; "
                "all features of a modality must have the same width"
            )


def fingerprint_of(sample: RawSample) -> bytes:
    """A build's dependence on this sample; files by size and time, since reading all would be the build itself."""
    files = [(name, _state(path)) for name, path in sorted(sample.media.items())]
    features = [(name, hashlib.sha256(row.tobytes()).hexdigest()) for name, row in sorted(sample.features.items())]
    image = _state(sample.image) if sample.image else None
    document = [sample.source, sample.split, sample.texts, sample.labels, image, files, features]
    return json.dumps(document).encode()


def _state(path: Path) -> tuple[int, int] | None:
    stat = path.stat() if path.exists() else None
    return (stat.st_size, stat.st_mtime_ns) if stat else None


def encode_sample(
    sample: RawSample,
    notes: list[str],
    *,
    classes: Collection[str],
    required: Sequence[str],
    resize: int | None,
    max_pixels: int,
    media: MediaPreparation | None = None,
) -> dict[str, bytes]:
    """The sample's members: extension -> bytes. What was repaired is added to the notes.

    Args:
        classes: better a set than a list, since each label is looked up in it.
        media: what decodes sounds, videos and shapes; without it, they are stored as they are.

    Raises:
        UnusableSample: a required modality is missing, or there is none at all; a label that is no class; an image,
            a raw file or features that cannot be used.
    """
    texts = tuple(text.strip() for text in sample.texts if text.strip())
    members = {"json": Metadata(texts, tuple(dict.fromkeys(sample.labels)), sample.source).encode()}
    try:
        _check_required(sample, texts, required)
        unknown = [label for label in sample.labels if label not in classes]
        if unknown:
            raise UnusableSample(f"label {unknown[0]!r} is in no class list")
        for name, path in sample.media.items():
            extension, data = _encode_media(name, path, media, resize)
            members[extension] = data
        if sample.image:
            extension, data = _encode_image(sample.image, resize=resize, max_pixels=max_pixels)
            members[extension] = data
    except (UnusableSample, UnusableImage) as error:
        raise UnusableSample(f"{sample.place}: {error}") from error
    for name, vector in sample.features.items():
        try:
            members[FEATURE_MEMBERS[name]] = encode_features(vector)
        except UnusableFeatures as error:
            raise UnusableSample(f"{name} features: {error}") from error
    empty = len(sample.texts) - len(texts)
    if empty:
        notes.append(f"{sample.source}: {empty} of {len(sample.texts)} texts are empty, left out")
    return members


def _check_required(sample: RawSample, texts: tuple[str, ...], required: Sequence[str]) -> None:
    given = {*sample.features, *sample.files, *(["text"] if texts else [])}
    for name in required:
        if name not in given:
            raise UnusableSample("has no text, or only empty ones" if name == "text" else f"has no {name}")
    if not given:
        raise UnusableSample(f"has none of {', '.join(MODALITIES)}")


def _encode_media(
    modality: str, path: Path, preparation: MediaPreparation | None, resize: int | None
) -> tuple[str, bytes]:
    extension = path.suffix.lower().removeprefix(".")
    if extension not in MEDIA_EXTENSIONS[modality]:
        known = ", ".join(MEDIA_EXTENSIONS[modality])
        raise UnusableSample(f"{modality} file {path.name}: its format is none of {known}")
    data = _read(path, MEDIA_BYTES)
    if not data:
        raise UnusableSample(f"{modality} file {path.name} is empty (zero bytes)")
    if preparation is None:
        return extension, data
    try:
        return preparation.prepare(modality, extension, data, f"{modality} file {path.name}", resize=resize)
    except XmrError as error:
        raise UnusableSample(str(error)) from error


def _encode_image(path: Path, *, resize: int | None, max_pixels: int) -> tuple[str, bytes]:
    """The member's extension and bytes. Every image is decoded once, so that what is in a shard is known to decode."""
    data = _read(path, IMAGE_BYTES)
    if resize is None:
        return check_decodes(data, max_pixels=max_pixels), data
    return "jpg", resize_to_jpeg(decode_whole(data, max_pixels=max_pixels), resize)


def _read(path: Path, most: int) -> bytes:
    try:
        return read_bytes(path, most=most)
    except XmrError as error:
        raise UnusableSample(f"cannot be read: {str(error).removeprefix(f'{path}: ')}") from error
    except OSError as error:
        raise UnusableSample(f"cannot be read: {error.strerror}") from error
