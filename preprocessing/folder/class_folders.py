"""Samples of class folders: `<class>/<name>.jpg` with `<name>.txt` beside it, one text a line, or files of any kind."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preprocessing.common.splits import ALIASES
from preprocessing.common.tables import numbered_lines
from preprocessing.folder.found import Found, Unused, is_foreign, modality_of
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import Skipped
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.shards.schema import is_litter

TEXT_SUFFIX = ".txt"


@dataclass
class _ClassFolder:
    """The content of the folder of one class."""

    path: Path
    split: str
    """empty where it is to be drawn"""
    members: list[Path]
    files: dict[Path, str] = field(default_factory=dict)
    """of each that is read, but for texts, its modality"""
    texts: dict[str, Path] = field(default_factory=dict)
    """file name without its ending -> the text's file"""

    @property
    def label(self) -> str:
        """Stripped, as labels of any set are: dog and "dog " are one class."""
        return self.path.name.strip()

    @property
    def name(self) -> str:
        """The folder's path within that of all classes or splits."""
        return f"{self.path.parent.name}/{self.path.name}" if self.split else self.path.name

    def source(self, path: Path) -> str:
        return f"{self.name}/{path.name}"


def samples_of_folders(raw: Path) -> Found:
    """The samples of class folders, or of folders of splits that hold these.

    Hidden files and what systems leave (`.DS_Store`, `Thumbs.db`) are passed over. Files of one class that differ in
    their endings alone are one sample. Where there are only pictures and texts, a sample needs both; where there are
    sounds, videos or 3D shapes, any of them is one.

    Raises:
        XmrError: a text file is not UTF-8, or a file's name is not.
    """
    unused = Unused()
    splits = _split_folders(raw)
    folders = [
        folder
        for parent, split in (splits or {raw: ""}).items()
        for folder in _class_folders(parent, split, unused, prefix=f"{parent.name}/" if splits else "")
    ]
    has_media = any(modality != "image" for folder in folders for modality in folder.files.values())
    found = Found([], has_splits=bool(splits), required=() if has_media else ("image", "text"))
    for folder in folders:
        _add_samples(folder, found, unused)
        _note_unused(folder, found, unused)
    found.notes.extend([*_notes_on_splits(found), *unused.notes()])
    return found


def _split_folders(raw: Path) -> dict[Path, str]:
    """Folder -> its split, where all folders are called as splits are and hold folders alone; else nothing."""
    folders = [path for path in _members(raw) if path.is_dir()]
    if not all(path.name.lower() in ALIASES for path in folders):
        return {}
    if not all(inner.is_dir() for path in folders for inner in _members(path)):
        return {}
    return {path: ALIASES[path.name.lower()] for path in folders}


def _notes_on_splits(found: Found) -> list[str]:
    """A note on folders that are called as splits are: what they hold are no classes."""
    names = sorted({label for sample in found.samples for label in sample.labels})
    if len(names) < 2 or not all(name.lower() in ALIASES for name in names):
        return []
    return [f"the folders {', '.join(names)} are taken for classes; splits are given in a table (--table), or as "
            "folders of class folders"]  # fmt: skip


def _members(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_litter(path.name))


def _class_folders(parent: Path, split: str, unused: Unused, *, prefix: str) -> Iterator[_ClassFolder]:
    """The folders within one, with what they hold by kind."""
    for path in _members(parent):
        name = f"{prefix}{path.name}"
        if path.is_dir():
            yield _class_folder(path, split, unused, name)
        elif is_foreign(path):
            unused.add_foreign(path, name)
        elif modality := modality_of(path):
            what = "images" if modality == "image" else f"{modality} files"
            unused.add(f"{what} are in no class folder and not used", name)


def _class_folder(path: Path, split: str, unused: Unused, name: str) -> _ClassFolder:
    _check_name(path)
    if not path.name.strip():
        raise XmrError(f"{str(path)!r}: the folder's name is blank, and would be a class without a name; rename it")
    members = _members(path)
    special = [member for member in members if member.exists() and not member.is_file() and not member.is_dir()]
    for member in special:  # a pipe would be waited for
        unused.add("entries are neither files nor folders and not used", f"{name}/{member.name}")
    folder = _ClassFolder(path, split, [member for member in members if member not in special])
    for member in folder.members:
        modality = modality_of(member)
        if member.is_dir():
            continue
        if modality:
            folder.files[member] = modality
        elif member.suffix.lower() == TEXT_SUFFIX:  # .txt comes behind .TXT, so that of both it is the one that is read
            folder.texts[member.stem] = member
    return folder


def _add_samples(folder: _ClassFolder, found: Found, unused: Unused) -> None:
    by_stem: dict[str, dict[Path, str]] = {}
    for path, modality in folder.files.items():
        by_stem.setdefault(path.stem, {})[path] = modality
    for stem, files in by_stem.items():
        for group in _groups(files):
            _add_sample(folder, group, folder.texts.get(stem), found)
        if len(_groups(files)) > 1:
            names = [folder.source(path) for path in files]
            found.together.append(names)
            what = "files" if len({*files.values()}) > 1 or not found.required else "pictures"
            unused.add(f"{what} have a text with others of the same name and stay in their split", " and ".join(names))
    if not found.required:
        for stem in sorted(folder.texts.keys() - by_stem.keys()):
            _add_sample(folder, {folder.texts[stem]: "text"}, folder.texts[stem], found)


def _groups(files: Mapping[Path, str]) -> Sequence[Mapping[Path, str]]:
    """Files of one name as one sample, or, where there are several of one kind, each as its own."""
    if len({*files.values()}) == len(files):
        return [files]
    return [{path: modality} for path, modality in files.items()]


def _add_sample(folder: _ClassFolder, files: Mapping[Path, str], text: Path | None, found: Found) -> None:
    modalities = {modality: path for path, modality in files.items()}
    first = next((modalities[name] for name in ("image", *modalities) if name in modalities), folder.path)
    source = folder.source(first)
    _check_name(first)
    if text is None and found.required:
        reason = f"{first}: there is no {first.with_suffix(TEXT_SUFFIX).name} beside it"
        found.skipped.append(Skipped(source, folder.split, reason))
        return
    lines = tuple(line for _, line in numbered_lines(text)) if text else ()
    media = {name: path for name, path in modalities.items() if name not in ("image", "text")}
    image = modalities.get("image")
    found.samples.append(RawSample(source, folder.split, image, lines, (folder.label,), media=media))


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() != "utf-8":
            raise  # the names may be right, and the locale is not
        raise XmrError(f"{str(path)!a}: the name is not valid UTF-8; rename it") from error


def _note_unused(folder: _ClassFolder, found: Found, unused: Unused) -> None:
    used = {path.stem for path in folder.files} | {path.stem for path in folder.members if is_foreign(path)}
    for path in folder.members:
        name, suffix = folder.source(path), path.suffix.lower()
        if path.is_dir():
            unused.add("folders lie within class folders and are not read", name)
        elif is_foreign(path):
            unused.add_foreign(path, name)
        elif suffix == TEXT_SUFFIX and path.stem not in used and found.required:
            unused.add("texts have no picture beside them", name)
        elif suffix != TEXT_SUFFIX and path not in folder.files:
            unused.add(f"files in {suffix or 'no ending'} are of no kind that is read and not used", name)
    if not folder.files and (found.required or not folder.texts):
        unused.add("folders hold no file that is read, and are no classes", folder.name)
