"""Raw sounds, videos and 3D shapes of PKU's XMedia and XMediaNet: lists of files, as those of images and texts are.

Neither names of such lists nor formats of the files are published, so that several names are known here, and any format
that shards hold.
"""

from __future__ import annotations

from pathlib import Path

from preprocessing.common.layout import Layout
from preprocessing.common.pku_files import Item, Listed, find_files, read_list
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

PREFIXES = {"audio": ("aud", "audio"), "video": ("vid", "video"), "shape3d": ("3d", "d3", "shape3d", "model")}
"""of the lists' names, each with _train_list.txt and _test_list.txt"""
FOLDERS = {
    "audio": ("", "audio", "audios", "aud"),
    "video": ("", "video", "videos", "vid"),
    "shape3d": ("", "3d", "3D", "d3", "shape3d", "models", "3d_models"),
}
"""folders within the raw folder where the paths of a list may begin"""
MEDIA_FILES = tuple(
    f"{names[0]}_train_list.txt, {names[0]}_test_list.txt and the files that they list    (instead of the features of "
    f"{modality}: {' '.join(f'.{extension}' for extension in MEDIA_EXTENSIONS[modality])})"
    for modality, names in PREFIXES.items()
)
"""lines of a layout"""


def has_media_lists(raw: Path, modality: str) -> bool:
    """True if the lists of both parts are there."""
    return _prefix(raw, modality) is not None


def read_media(raw: Path, modality: str, part: str, classes: int, layout: Layout) -> list[Item]:
    """The sounds, videos or shapes of one part ("train", "test"), in the order of its list. Each is its own sample.

    Raises:
        XmrError: malformed lines, or none of the files is there. Single ones that are missing are found by the build.
    """
    listed = read_list(raw / f"{_prefix(raw, modality)}_{part}_list.txt", classes)
    folder = find_files(raw, FOLDERS[modality], listed)
    if folder is None:
        raise layout.error(f"{raw}: none of the {len(listed)} {modality} files of the part {part!r} is there, such as "
                           f"{listed[0].path}")  # fmt: skip
    return [_item(folder, modality, entry) for entry in listed]


def _item(folder: Path, modality: str, entry: Listed) -> Item:
    return Item(entry.path, entry.label, media={modality: folder / entry.path})


def _prefix(raw: Path, modality: str) -> str | None:
    present = (
        prefix
        for prefix in PREFIXES[modality]
        if all((raw / f"{prefix}_{part}_list.txt").exists() for part in ("train", "test"))
    )
    return next(present, None)
