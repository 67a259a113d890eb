"""Samples of class folders: `<class>/<name>.jpg` with `<name>.txt` beside it, one text a line."""

from __future__ import annotations

import sys
from pathlib import Path

from preprocessing.common.splits import ALIASES
from preprocessing.common.tables import numbered_lines
from preprocessing.folder.found import Found, Unused, is_foreign
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import Skipped
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.shards.schema import IMAGE_SUFFIXES, is_litter

TEXT_SUFFIX = ".txt"


def samples_of_folders(raw: Path) -> Found:
    """The samples of class folders; hidden files and what systems leave (`.DS_Store`, `Thumbs.db`) are passed over.

    Raises:
        XmrError: a text file is not UTF-8, or a picture's name is not.
    """
    found = Found([], has_splits=False)
    unused = Unused()
    for path in _members(raw):
        if path.is_dir():
            _add_class(path, found, unused)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            unused.add("images are in no class folder and not used", path.name)
        elif is_foreign(path):
            unused.add_foreign(path, path.name)
    found.notes.extend([*_notes_on_splits(found), *unused.notes()])
    return found


def _notes_on_splits(found: Found) -> list[str]:
    """A note on folders that are called as splits are: what they hold are no classes."""
    names = sorted({label for sample in found.samples for label in sample.labels})
    if len(names) < 2 or not all(name.lower() in ALIASES for name in names):
        return []
    return [f"the folders {', '.join(names)} are taken for classes; splits are given in a table (--table)"]


def _members(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_litter(path.name))


def _add_class(folder: Path, found: Found, unused: Unused) -> None:
    _check_name(folder)
    if not folder.name.strip():
        raise XmrError(f"{str(folder)!r}: the folder's name is blank, and would be a class without a name; rename it")
    members = _members(folder)
    special = [path for path in members if path.exists() and not path.is_file() and not path.is_dir()]
    for path in special:  # a pipe would be waited for
        unused.add("entries are neither files nor folders and not used", f"{folder.name}/{path.name}")
    members = [path for path in members if path not in special]
    files = [path for path in members if not path.is_dir()]
    # .txt comes behind .TXT, so that of both it is the one that is read
    text_of = {path.stem: path for path in files if path.suffix.lower() == TEXT_SUFFIX}
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    for image in images:
        _add_sample(f"{folder.name}/{image.name}", image, text_of.get(image.stem), found)
    _note_namesakes(folder, images, found, unused)
    _note_unused(folder, members, {path.stem for path in images}, unused)
    if not images:
        unused.add("folders hold no picture that is read, and are no classes", folder.name)


def _add_sample(source: str, image: Path, text: Path | None, found: Found) -> None:
    if text is None:
        _check_name(image)
        reason = f"{image}: there is no {image.with_suffix(TEXT_SUFFIX).name} beside it"
        found.skipped.append(Skipped(source, "", reason))
        return
    lines = tuple(line for _, line in numbered_lines(text))
    # Stripped, as labels of any set are: dog and "dog " are one class.
    found.samples.append(RawSample(source, "", image, lines, (image.parent.name.strip(),)))


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        if sys.getfilesystemencoding() != "utf-8":
            raise  # the names may be right, and the locale is not
        raise XmrError(f"{str(path)!a}: the name is not valid UTF-8; rename it") from error


def _note_namesakes(folder: Path, images: list[Path], found: Found, unused: Unused) -> None:
    """Pictures that have one text, since their names differ in the ending alone: dog/a.jpg and dog/a.png."""
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_stem.setdefault(image.stem, []).append(f"{folder.name}/{image.name}")
    for names in by_stem.values():
        if len(names) > 1:
            found.together.append(names)
            unused.add("pictures have a text with others of the same name and stay in their split", " and ".join(names))


def _note_unused(folder: Path, members: list[Path], used: set[str], unused: Unused) -> None:
    foreign = {path.stem for path in members if is_foreign(path)}
    for path in members:
        name, suffix = f"{folder.name}/{path.name}", path.suffix.lower()
        if path.is_dir():
            unused.add("folders lie within class folders and are not read", name)
        elif is_foreign(path):
            unused.add_foreign(path, name)
        elif suffix == TEXT_SUFFIX and path.stem not in used | foreign:
            unused.add("texts have no picture beside them", name)
        elif suffix not in (*IMAGE_SUFFIXES, TEXT_SUFFIX):
            unused.add(f"files in {suffix or 'no ending'} are neither pictures nor texts and not used", name)
