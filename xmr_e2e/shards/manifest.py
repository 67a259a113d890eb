"""`manifest.json`: what a folder of shards holds. It is written last, so a folder without one is no dataset."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.files import write_atomically
from xmr_e2e.received import PlainName, inside, is_plain, parse, read_bytes, shortened
from xmr_e2e.shards.schema import COCO_CLASSES, MODALITIES, REGIONS_MEMBER, SPLITS

FORMAT = "xmr-shards"
VERSION = 2
NAME = "manifest.json"
BUILD_DIR = ".building"
"""The folder within the dataset's, in which shards grow until the build is complete."""
EXTEND_DIR = ".extending"
"""The folder within the dataset's that keeps the manifest while its shards get one member more."""
REMOTE = "remote.json"
"""The file within the folder that says where the tars of a mounted dataset lie."""
REGIONS = "regions"
"""what a detector's regions are called among the shapes"""
TAR_BLOCK = 512
"""bytes: of a tar, each member takes one such block at least"""
MOST_SAMPLES = 10**9
"""of a dataset: some gigabytes are taken for the order alone in which so many are read"""
LONGEST_CLASS = 1000
"""characters in the name of a class"""
MOST_CLASSES = 1_000_000
_DETECTOR = re.compile(r"fasterrcnn_resnet50_fpn(?:, ([1-9]\d{0,4}) classes)?, weights ")


def _tar_name(name: str) -> str:
    if not name.endswith(".tar"):
        raise ValueError("should end in .tar; rename tars that another tool made")
    return name


# What a manifest may hold, whoever has written it.
TarName = Annotated[PlainName, AfterValidator(_tar_name)]
SplitName = Annotated[str, Field(pattern=f"^({'|'.join(SPLITS)})$")]
Modality = Annotated[str, Field(pattern=f"^({'|'.join(MODALITIES)})$")]
Count = Annotated[int, Field(ge=0, le=MOST_SAMPLES)]
Samples = Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
Bytes = Annotated[int, Field(ge=1, le=2**44)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ClassName = Annotated[str, Field(min_length=1, max_length=LONGEST_CLASS)]
Text = Annotated[str, Field(max_length=100_000)]
ShapeName = Annotated[str, Field(pattern=f"^({'|'.join((*MODALITIES, REGIONS))})$")]
Shape = Annotated[tuple[Annotated[int, Field(ge=1, le=2**24)], ...], Field(min_length=1, max_length=2)]
Option = Annotated[int, Field(ge=0, le=2**31)] | None


@dataclass(frozen=True)
class Shard:
    """One tar of a split: its file name, its number of samples, its size in bytes and its sha256."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: TarName
    samples: Samples
    bytes: Bytes
    sha256: Sha256


@dataclass(frozen=True)
class Split:
    """The shards of one split in the order of their samples' positions, and what occurs in it how often."""

    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    labels: dict[ClassName, Count]
    """class -> number of samples"""
    modalities: dict[Modality, Count]
    """modality -> number of samples that have it, raw or as features; those that none has are left out"""

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be used, and why."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Text
    """the id in the publisher's files; of adopted tars, TAR/KEY"""
    split: Text
    reason: Text


@dataclass(frozen=True)
class Manifest:
    """A dataset in shards."""

    dataset: Text
    classes: Annotated[tuple[ClassName, ...], Field(max_length=MOST_CLASSES)]
    multi_label: bool
    splits: Annotated[dict[SplitName, Split], Field(min_length=1)]
    required: tuple[Modality, ...] = ("image", "text")
    """the modalities that each sample has; with none, each has any"""
    shapes: dict[ShapeName, Shape] = field(default_factory=dict)
    """modality -> shape (d,) of its published features; "regions" -> shape (r, d) of each picture's regions"""
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Text, ...] = ()
    """repairs and intended omissions of the builder"""
    options: Annotated[dict[Text, Option], Field(max_length=100)] = field(default_factory=dict)
    """the build options that shape the bytes"""
    fingerprint: Text = ""
    """of the build's whole input, by which a repeated build knows that there is nothing to do"""
    adopted: bool = False
    """the tars were made by another tool: their keys are unique over a split, but need not ascend"""
    extended: Annotated[dict[Text, Text], Field(max_length=100)] = field(default_factory=dict)
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
        """Modality -> width of its published features; "regions" -> that of the regions' features, "objects" -> the
        classes of the detector that found them, where its note says so."""
        found = _DETECTOR.search(self.extended.get(REGIONS_MEMBER, ""))
        objects = {"objects": int(found[1] or COCO_CLASSES)} if found else {}
        return {name: shape[-1] for name, shape in self.shapes.items()} | objects

    @property
    def max_pixels(self) -> int | None:
        """The cap of an image's pixels with which the shards were built; None where it is not known."""
        return self.options.get("max_pixels")

    def _repr_html_(self) -> str:
        from xmr_e2e.shards.info import as_html

        return as_html(self)

    def encode(self) -> bytes:
        document = {"format": FORMAT, "version": VERSION, **asdict(self)}
        for name, split in self.splits.items():
            document["splits"][name]["samples"] = split.samples
        return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()

    def save(self, folder: Path) -> None:
        write_atomically(folder / NAME, self.encode())


@dataclass(frozen=True)
class _Header:
    """The beginning of a manifest's file, by which those of other versions are told."""

    format: str
    version: int


def load_manifest(folder: Path | str) -> Manifest:
    """Read a folder's manifest.

    Raises:
        XmrError: no manifest (the message says whether something was left unfinished), or one that this version
            cannot read.
    """
    folder = Path(folder)
    path = folder / NAME
    if not path.exists():
        advice = "build the shards first"
        if (folder / BUILD_DIR).exists():
            advice = "a build was left unfinished here: run the builder again"
        elif (folder / EXTEND_DIR / NAME).exists():
            advice = "the shards were being extended: run that command again, it goes on where it stopped"
        elif (folder / REMOTE).exists():
            advice = "a mount was left unfinished here: run `xmr shards mount` again"
        elif url := _url_of(folder):
            command = f"{shell('xmr', 'shards', 'mount', url)} FOLDER"
            raise XmrError(f"{url}: shards that lie elsewhere are mounted first: `{command}`; then give FOLDER")
        raise XmrError(f"{path} does not exist: {advice}")
    return read_manifest(path)


def _url_of(folder: Path) -> str:
    """The URL that was given as a folder, which has cost it a slash; empty if none was."""
    scheme, colon, rest = str(folder).partition(":")
    if not colon or not re.fullmatch("[a-z][a-z0-9+.-]+", scheme):
        return ""
    return f"{scheme}:{'///' if scheme == 'file' else '//'}{rest[1:]}" if rest.startswith("/") else ""


def read_manifest(path: Path) -> Manifest:
    """Read a manifest's file; once per process, as long as it is the same. Raises XmrError as `load_manifest` does."""
    file = shard_file(path.parent, path.name)
    state = file.stat()
    return _read(file, str(path), (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=16)
def _read(file: Path, path: str, state: tuple[int, ...]) -> Manifest:
    return parse_manifest(read_bytes(file), path)


def parse_manifest(content: bytes, path: str) -> Manifest:
    """Read a manifest's bytes, which come from this path or URL. Raises XmrError as `load_manifest` does."""
    where = f"{path}: not a valid manifest"
    header = parse(_Header, content, where)
    if (header.format, header.version) != (FORMAT, VERSION):
        raise XmrError(
            f"{path}: format {shortened(header.format, quoted=False)} version {header.version}; this program reads "
            f"{FORMAT} version {VERSION}. Build the shards again with --overwrite; tars of another tool: delete this "
            "file and adopt them again"
        )
    manifest = parse(Manifest, content, where)
    for problem in _contradictions(manifest):
        raise XmrError(f"{where}: {problem}")
    return manifest


def check_readable(manifest: Manifest, path: Path) -> None:
    """Raise XmrError for a manifest that could be written to this path, but not be read again."""
    parse_manifest(manifest.encode(), str(path))


def check_classes(classes: Sequence[str]) -> None:
    """Raise XmrError for names that cannot all be classes of one dataset."""
    if len(classes) > MOST_CLASSES:
        raise XmrError(f"{len(classes):,} classes; a dataset has at most {MOST_CLASSES:,}")
    for name, times in Counter(classes).items():
        if times > 1:
            raise XmrError(f"the class {shortened(name)} is there {times} times")
        if not 1 <= len(name) <= LONGEST_CLASS:
            raise XmrError(f"the class {shortened(name)} has {len(name):,} characters, not 1 to {LONGEST_CLASS:,}")


def shard_file(folder: Path, name: str) -> Path:
    """The file of this plain name in a folder of shards; it need not be there.

    Raises:
        XmrError: no plain name, no regular file, or a link that leads out of the folder.
    """
    try:
        return inside(folder, name)
    except XmrError as error:
        path = folder / name
        if not is_plain(name) or not path.is_symlink():
            raise
        place = path.resolve().parent
        raise XmrError(
            f"{error}, or, if a whole folder of shards lies there, mount it: xmr shards mount "
            f"{shell(place.as_uri())} FOLDER"
        ) from error


def own_folder(folder: Path, name: str) -> Path:
    """The folder of this name in a folder of shards, in which files are moved and removed; it need not be there.

    Raises:
        XmrError: it is a link, or no folder.
    """
    path = folder / name
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise XmrError(f"{path}: not a folder of its own; remove it, since what is in it would be moved or removed")
    return path


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """Complaints about values that are each possible, and not together."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    twice = [name for name, times in Counter(shard.name for shard in shards).items() if times > 1]
    if twice:
        yield f"the shard {twice[0]} is there twice"
    for shard in shards:
        if shard.samples * TAR_BLOCK > shard.bytes:
            yield f"the shard {shard.name} has {shard.samples:,} samples in {shard.bytes:,} bytes"
    total = sum(shard.samples for shard in shards)
    if total > MOST_SAMPLES:
        yield f"{total:,} samples; at most {MOST_SAMPLES:,} are read"
    classes = set(manifest.classes)
    if len(classes) < len(manifest.classes):
        yield "a class is there twice"
    for name, split in manifest.splits.items():
        if not classes.issuperset(split.labels):
            yield f"splits.{name}.labels: {shortened(min(split.labels.keys() - classes))} is none of the classes"
    for name, shape in manifest.shapes.items():
        if len(shape) != (2 if name == REGIONS else 1):
            yield f"shapes.{name}: {shape}; features are one vector (d,), and regions (r, d)"


def count_labels(labels: list[tuple[str, ...]], classes: tuple[str, ...]) -> dict[str, int]:
    """The number of samples that carry each class, in the order of the classes."""
    counts = Counter(name for row in labels for name in row)
    return {name: counts[name] for name in classes}


def sum_modalities(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The shards' counts of modalities, together for a split."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return {name: total[name] for name in MODALITIES if total[name]}
