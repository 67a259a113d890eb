"""Adding the media files of a folder to an index."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import FILE_SUFFIXES, LOADERS, MEDIA_BYTES, NOUNS, RAW_KINDS, modality_of
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.received import read_bytes
from xmr_e2e.search.draft import Draft, NewItem
from xmr_e2e.search.drawings import Shown, show
from xmr_e2e.search.progress import progress_bar
from xmr_e2e.search.store import Item, Store
from xmr_e2e.shards.audit.duplicates import ALIKE, ALIKE_IN_DETAIL
from xmr_e2e.shards.audit.fingerprint import FLAT, perceptual_hashes
from xmr_e2e.shards.media import IMAGE_BYTES, UnusableImage, decode_rgb, thumbnail
from xmr_e2e.shards.unused import user_files

THUMBNAIL = 320
"""pixels of a thumbnail's longer side"""
FILES = 64
"""embedded at a time"""

logger = logging.getLogger(__name__)


@dataclass
class Added:
    """The outcome for the items that were to be added."""

    added: int = 0
    present: int = 0
    """were there already, and stay as they are"""
    unusable: int = 0
    """files that cannot be read"""
    unused: list[Path] = field(default_factory=list)
    """files of kinds that the model does not embed, or of a format that is not read"""


@dataclass(frozen=True)
class _File:
    """A file that is to be added, ready for the model."""

    item: Item
    decoded: Any
    shown: Shown


def file_suffixes(model: SavedModel) -> tuple[str, ...]:
    """The endings of the files that a model embeds."""
    kinds = model.method.input_kinds
    own = (suffixes for name, suffixes in FILE_SUFFIXES.items() if kinds.get(name) == RAW_KINDS[name])
    return tuple(chain.from_iterable(own))


def add_files(store: Draft, model: SavedModel, folder: Path, result: Added) -> None:
    """Embed the media files in a folder and the folders in it, and add those that are not there yet."""
    files, suffixes = user_files(folder), file_suffixes(model)
    result.unused = [path for path in files if path.suffix.lower() not in suffixes]
    names = store.by_name()
    for modality, own in FILE_SUFFIXES.items():
        paths = [path for path in files if path.suffix.lower() in suffixes and path.suffix.lower() in own]
        if not paths:
            continue
        with progress_bar(f"embedding {NOUNS[modality]}s", len(paths)) as advance:
            for start in range(0, len(paths), FILES):
                some = paths[start : start + FILES]
                store.add(_new_items(store, names, model, folder, some, result))
                advance(len(some))


def _new_items(
    store: Store, names: Mapping[str, Sequence[int]], model: SavedModel, folder: Path, paths: Sequence[Path],
    result: Added,
) -> list[NewItem]:  # fmt: skip
    """The files of one modality that are not there yet: known by their content, wherever they lie and whatever they are
    called; pictures by name and look, too, as of originals whose shards hold smaller versions.

    names: `Store.by_name`.
    """
    usable: list[_File] = []
    seen: set[str] = set()
    for path in paths:
        try:
            file = _prepare(path, folder, model, lambda id: id in seen or bool(store.known([id])))
        except UnusableImage as error:
            _leave_out(f"{path} is left out: {error}", result)
        except XmrError as error:
            _leave_out(f"{error}: left out", result)
        else:
            if file is None or _is_there(file, path, store, names):
                result.present += 1
            else:
                usable.append(file)
            if file is not None:
                seen.add(file.item.id)
    result.added += len(usable)
    if not usable:
        return []
    modality = modality_of(paths[0])
    assert modality is not None, "they were chosen by their endings"
    rows = model.embed_decoded(modality, [file.decoded for file in usable])
    return [
        NewItem(file.item, {modality: row}, file.shown.jpeg, file.shown.previews) for file, row in zip(usable, rows)
    ]


def _prepare(path: Path, folder: Path, model: SavedModel, is_known: Any) -> _File | None:
    """A file, decoded; None for one whose content is known.

    Raises:
        XmrError: it cannot be read or decoded; names it.
        UnusableImage: a picture that cannot be decoded.
    """
    modality = modality_of(path)
    assert modality is not None, "it was chosen by its ending"
    try:
        content = read_bytes(path, most=IMAGE_BYTES if modality == "image" else MEDIA_BYTES)
    except OSError as error:
        raise XmrError(f"{path}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    item = Item(f"sha256:{digest}", folder.resolve().name, "", digest[:16], path.relative_to(folder).as_posix(), (), ())
    if is_known(item.id):
        return None
    if modality == "image":
        shown = Shown(thumbnail(content, THUMBNAIL))
    else:
        extension = path.suffix.lower().removeprefix(".")
        shown = show(content, modality, extension, where=str(path), bounds=model.data.media)
    return _File(item, LOADERS[modality]([path], model.data), shown)


def _is_there(file: _File, path: Path, store: Store, names: Mapping[str, Sequence[int]]) -> bool:
    """True for a picture that looks as one of its name that is there already."""
    if modality_of(path) != "image":
        return False
    return any(_look_alike(file.shown.jpeg, store.pictures.thumbnail(number)) for number in names.get(path.stem, ()))


def _leave_out(reason: str, result: Added) -> None:
    logger.warning("%s", reason)
    result.unusable += 1


def _look_alike(one: bytes | None, other: bytes | None) -> bool:
    """True for two thumbnails of the same picture, by the rule of `xmr shards audit`."""
    if one is None or other is None:
        return False
    images = [decode_rgb(jpeg) for jpeg in (one, other)]
    first, second = map(perceptual_hashes, images)
    if first is None or second is None:  # of one colour
        means = [np.asarray(image, np.float32).mean((0, 1)) for image in images]
        return first is second and float(np.abs(means[0] - means[1]).max()) < FLAT
    detail = sum((a ^ b).bit_count() for a, b in zip(first[1], second[1]))
    return (first[0] ^ second[0]).bit_count() <= ALIKE and detail <= ALIKE_IN_DETAIL
