"""XMediaNet as Peking University publishes it: pairs of an image and a text in 200 classes, and three other media.

Y. Peng, X. Huang, Y. Zhao: An overview of cross-media retrieval: concepts, methodologies, benchmarks and challenges.
IEEE Transactions on Circuits and Systems for Video Technology 28(9), 2018; X. Huang, Y. Peng, M. Yuan: MHTN: modal-
adversarial hybrid transfer network for cross-modal retrieval. IEEE Transactions on Cybernetics 50(3), 2020.

The publisher's split has 32,000 pairs to train on and 8,000 to test (SDCMR). DSCMR and DRCL use 4,000 of these to test
and 4,000 for validation; which ones was published only within DRCL's features, without names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from preprocessing.common.command import OutFolder, RawFolder, run, show_built
from preprocessing.common.layout import Layout
from preprocessing.common.media import MediaOptions
from preprocessing.common.pku_files import (
    LIST_FILES,
    ORIGIN,
    Item,
    MatFile,
    Selection,
    Table,
    checked_tables,
    class_names,
    has_lists,
    items_of_pair,
    items_of_table,
    odd_widths,
    read_pairs,
)
from preprocessing.common.pku_media import MEDIA_FILES, has_media_lists, read_media
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, build_shards

CLASSES = 200
FEATURES = "XMediaNet5View_Doc2Vec.mat"
LAYOUT = Layout(
    "XMediaNet",
    (
        *LIST_FILES,
        *MEDIA_FILES,
        f"{FEATURES}    (instead of the lists, or beside them for media without: DRCL's features)",
    ),
    ORIGIN,
)
WIDTHS = {"image": 4096, "text": 300, "audio": 672, "shape3d": 4700, "video": 4096}
"""The modalities in the order of the file's cells, and the widths of their features."""
OWN_SAMPLES = ("audio", "shape3d", "video")
KEYS = {"train": "train", "val": "valid", "test": "test"}
"""split -> the key of its features; that of the labels ends in _labels"""
PUBLISHED = {"train": 32_000, "test": 8_000}
HALVED = "of each class, the first half of the publisher's test list is test and the second val"


def xmedianet(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    splits: Literal["32k/4k/4k", "32k/8k"] = "32k/4k/4k",
    classes: Path | None = None,
    media: MediaOptions = MediaOptions(),
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from XMediaNet: pairs of an image and a text in 200 classes, sounds, videos and 3D shapes.

    RAW holds img_train_list.txt and img_test_list.txt, txt_train_list.txt and txt_test_list.txt, and the images and
    texts that they list; likewise with aud, vid and 3d for the other media. What has no lists is taken from
    XMediaNet5View_Doc2Vec.mat, as published features.

    Example: python -m preprocessing.xmedianet data/raw/xmedianet data/shards/xmedianet

    Args:
        raw: the folder with the publisher's files
        out: the folder to write shards and manifest.json to
        splits: train/val/test, as for DSCMR and DRCL; or the publisher's train/test, as for SDCMR, which has no
            validation split to select on
        classes: a text file with the names of the 200 classes, one a line in the order of their numbers; by default,
            "class 001" and so on
    """
    LAYOUT.require_folder(raw)
    listed, published = has_lists(raw), (raw / FEATURES).exists()
    with_files = [modality for modality in OWN_SAMPLES if has_media_lists(raw, modality)]
    if not listed and not published and not with_files:
        raise LAYOUT.error(f"{raw} holds neither img_train_list.txt and img_test_list.txt nor {FEATURES}")
    selection = Selection(class_names(CLASSES, classes))
    with_val = splits == "32k/4k/4k"
    if listed:
        _add_lists(raw, selection, with_val=with_val)
    for modality in with_files:
        parts = {part: read_media(raw, modality, part, CLASSES, LAYOUT) for part in PUBLISHED}
        _add_parts(parts, selection, with_val=with_val)
    if published:
        others = [modality for modality in OWN_SAMPLES if modality not in with_files]
        _add_features(MatFile(raw / FEATURES), selection, others, pairs=not listed, with_val=with_val)
    media.check(selection.samples)
    manifest = build_shards(
        out,
        dataset="xmedianet",
        classes=selection.classes,
        samples=selection.samples,
        skipped=selection.skipped,
        notes=selection.notes,
        required=() if published or with_files else ("image", "text"),
        raw=raw,
        options=build,
        media=media,
    )
    show_built(manifest, out)


def _add_lists(raw: Path, selection: Selection, *, with_val: bool) -> None:
    parts = {part: read_pairs(raw, part, CLASSES, LAYOUT, selection.notes) for part in PUBLISHED}
    selection.notes += [
        f"{len(items)} pairs in the publisher's {part} lists instead of {PUBLISHED[part]:,}"
        for part, items in parts.items()
        if len(items) != PUBLISHED[part]
    ]
    _add_parts(parts, selection, with_val=with_val)


def _add_parts(parts: Mapping[str, Sequence[Item]], selection: Selection, *, with_val: bool) -> None:
    """Add what is listed to train and test, which is halved by classes where there is to be a val."""
    selection.add("train", parts["train"])
    if not with_val:
        selection.add("test", parts["test"])
        return
    test, val = halve_classes(parts["test"])
    selection.add("test", test)
    selection.add("val", val)
    if HALVED not in selection.notes:
        selection.notes.append(HALVED)


def halve_classes(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The first half of each class, which is test, and the second, which is val; both in their old order.

    Unlike the halves of the whole list, these hold the same classes whatever the list's order is.
    """
    by_class: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item.label].append(item)
    second = {item.source for members in by_class.values() for item in members[len(members) - len(members) // 2 :]}
    return [item for item in items if item.source not in second], [item for item in items if item.source in second]


def _add_features(mat: MatFile, selection: Selection, others: Sequence[str], *, pairs: bool, with_val: bool) -> None:
    """Add the published features of these media, and of the pairs."""
    tables = read_tables(mat)
    selection.notes += odd_widths(tables.values(), WIDTHS)
    for split in KEYS:
        target = split if with_val or split == "train" else "test"
        if pairs:
            selection.add(target, items_of_pair(tables["image", split], tables["text", split], split, mat.path))
        for modality in others:
            selection.add(target, items_of_table(tables[modality, split], split))
    if not pairs and others:
        names = [{"audio": "sounds", "shape3d": "3D shapes", "video": "videos"}[modality] for modality in others]
        *first, last = names
        named = f"{', '.join(first)} and {last}" if first else last
        selection.notes.append(f"{named} are split as in {FEATURES}, pairs by their lists")


def read_tables(mat: MatFile) -> dict[tuple[str, str], Table]:
    """(modality, split) -> its features and labels.

    Raises:
        XmrError: a key that is missing or holds something else, or features and labels that do not belong together.
    """
    places, tables, label_keys = [], [], []
    for split, key in KEYS.items():
        features, labels = _cells(mat, key), _cells(mat, f"{key}_labels")
        for view, modality in enumerate(WIDTHS):
            name, label_name = f"{key}{{{view + 1}}}", f"{key}_labels{{{view + 1}}}"
            places.append((modality, split))
            label_keys.append(label_name)
            tables.append(Table(modality, name, mat.rows(name, features[view]), mat.numbers(label_name, labels[view])))
    return dict(zip(places, checked_tables(mat, tables, label_keys, CLASSES)))


def _cells(mat: MatFile, key: str) -> list[Any]:
    cells = np.asarray(mat.get(key))
    if cells.dtype != object or cells.size != len(WIDTHS):
        raise XmrError(f"{mat.path}: {key}: an array of {cells.dtype} and shape {cells.shape}; wanted is a cell array "
                       f"with {len(WIDTHS)} cells: {', '.join(WIDTHS)}")  # fmt: skip
    return list(cells.ravel())


if __name__ == "__main__":
    run(xmedianet)
