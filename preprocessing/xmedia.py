"""XMedia as Peking University publishes it: 20 classes in five media, of which images and texts are pairs.

Y. Peng, X. Huang, Y. Zhao: An overview of cross-media retrieval: concepts, methodologies, benchmarks and challenges.
IEEE Transactions on Circuits and Systems for Video Technology 28(9), 2018; X. Zhai, Y. Peng, J. Xiao: Learning
cross-media joint representation with sparse and semisupervised regularization. The same, 24(6), 2014.

The publisher's split has 4,000 images and texts, 800 sounds, 400 shapes and 969 videos to train on, and 1,000, 200, 100
and 174 to test. DRCL, MARS and SDML halve each of these test parts: the first half is test, the second half val.

These 1,143 videos are rows of features. Of raw videos there are 500, and which rows belong to which is not published,
so that the split of the papers' videos cannot be had from raw ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from xmr_e2e.shards.build import BuildOptions, build_shards

CLASSES = 20
FEATURES = "XMediaFeatures.mat"
LAYOUT = Layout(
    "XMedia",
    (
        f"{FEATURES}    (features of all five media, with their labels)",
        "and, where you have raw media, or instead of it:",
        *LIST_FILES,
        *MEDIA_FILES,
    ),
    ORIGIN,
)
MODALITIES = {
    "image": ("I_{}_CNN", "{}ImgCat"),
    "text": ("T_{}_BOW", "{}TxtCat"),
    "audio": ("A_{}", "{}AudCat"),
    "video": ("V_{}_CNN", "{}VidCat"),
    "shape3d": ("d3_{}", "{}3dCat"),
}
"""modality -> the keys of its features and of their labels, each to be filled with tr or te"""
WIDTHS = {"image": 4096, "text": 3000, "audio": 29, "video": 4096, "shape3d": 4700}
"""of VGG-19's fc7, bags of words, MFCC, C3D and LightField features"""
PAIRS = "image-text"
MEDIA = ("audio", "video", "shape3d")
PUBLISHED = {
    "train": {PAIRS: 4000, "audio": 800, "video": 969, "shape3d": 400},
    "test": {PAIRS: 1000, "audio": 200, "video": 174, "shape3d": 100},
}
RAW_VIDEOS = "raw videos are split by their lists; which of them DRCL tested on is not known"
HALVED = "of the publisher's test part, the first half of each medium is test and the second val, as for DRCL"


def xmedia(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    classes: Path | None = None,
    media: MediaOptions = MediaOptions(),
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from XMedia: images with texts, sounds, videos and 3D shapes of 20 classes.

    Images and texts are pairs, sounds, videos and shapes are samples of their own. Each medium is raw where RAW has its
    lists (img_train_list.txt and img_test_list.txt for pairs, likewise aud, vid and 3d), and else is the published
    features in XMediaFeatures.mat.

    Example: python -m preprocessing.xmedia data/raw/xmedia data/shards/xmedia

    Args:
        raw: the folder with the publisher's files
        out: the folder to write shards and manifest.json to
        classes: a text file with the names of the 20 classes, one a line in the order of their numbers; by default,
            "class 01" and so on
    """
    LAYOUT.require_folder(raw)
    if not (raw / FEATURES).exists() and not has_lists(raw) and not any(has_media_lists(raw, name) for name in MEDIA):
        raise LAYOUT.error(f"{raw} holds neither {FEATURES} nor a medium's lists")
    selection = Selection(class_names(CLASSES, classes), notes=[HALVED])
    for part, by_medium in _read_parts(raw, selection.notes).items():
        for medium, items in by_medium.items():
            selection.notes += _odd_count(part, medium, items)
            if part == "train":
                selection.add("train", items)
                continue
            test, val = halve(items)
            selection.add("test", test)
            selection.add("val", val)
            selection.notes += _uneven(medium, test, val)
    media.check(selection.samples)
    manifest = build_shards(
        out,
        dataset="xmedia",
        classes=selection.classes,
        samples=selection.samples,
        skipped=selection.skipped,
        notes=selection.notes,
        required=(),
        raw=raw,
        options=build,
        media=media,
    )
    show_built(manifest, out)


def halve(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """The first half, which is test, and the second, which is val."""
    middle = len(items) - len(items) // 2
    return items[:middle], items[middle:]


def _read_parts(raw: Path, notes: list[str]) -> dict[str, dict[str, list[Item]]]:
    """Part ("train", "test") of the publisher's split -> medium -> its samples in the publisher's order."""
    listed = [PAIRS] if has_lists(raw) else []
    listed += [name for name in MEDIA if has_media_lists(raw, name)]
    parts: dict[str, dict[str, list[Item]]] = {part: {} for part in PUBLISHED}
    for part in PUBLISHED:
        for medium in listed:
            parts[part][medium] = (
                read_pairs(raw, part, CLASSES, LAYOUT, notes)
                if medium == PAIRS
                else read_media(raw, medium, part, CLASSES, LAYOUT)
            )
    wanted = [medium for medium in (PAIRS, *MEDIA) if medium not in listed]
    if wanted and not (raw / FEATURES).exists():
        notes.append(f"there is no {FEATURES}, and there are no lists of {', '.join(wanted)}: left out")
    elif wanted:
        _add_features(MatFile(raw / FEATURES), wanted, parts, notes)
    notes += [RAW_VIDEOS] if "video" in listed else []
    return parts


def _add_features(
    mat: MatFile, wanted: Sequence[str], parts: dict[str, dict[str, list[Item]]], notes: list[str]
) -> None:
    """Add the published features of these media to the parts."""
    modalities = [name for name in MODALITIES if name in wanted or (PAIRS in wanted and name in ("image", "text"))]
    tables = read_tables(mat, modalities)
    notes += odd_widths(tables.values(), WIDTHS)
    for part, by_medium in parts.items():
        for medium in wanted:
            by_medium[medium] = list(
                items_of_pair(tables["image", part], tables["text", part], part, mat.path)
                if medium == PAIRS
                else items_of_table(tables[medium, part], part)
            )


def read_tables(mat: MatFile, modalities: Sequence[str]) -> dict[tuple[str, str], Table]:
    """(modality, part) -> its features and labels.

    Raises:
        XmrError: a key that is missing or holds something else, or features and labels that do not belong together.
    """
    places = [(modality, part) for modality in modalities for part in PUBLISHED]
    keys = {(m, p): [key.format(p[:2]) for key in MODALITIES[m]] for m, p in places}
    tables = [Table(m, keys[m, p][0], mat.rows(keys[m, p][0]), mat.numbers(keys[m, p][1])) for m, p in places]
    return dict(zip(places, checked_tables(mat, tables, [keys[place][1] for place in places], CLASSES)))


def _odd_count(part: str, medium: str, items: Sequence[Item]) -> list[str]:
    expected = PUBLISHED[part][medium]
    if medium == "video" and any(item.media for item in items):
        return []  # what is published is a number of rows
    return [f"{medium}, {part} part: {len(items)} samples instead of {expected}"] if len(items) != expected else []


def _uneven(medium: str, test: Sequence[Item], val: Sequence[Item]) -> list[str]:
    """A list that is sorted by class has different classes in its halves: figures on val say little of test then."""
    alone = {item.label for item in test} ^ {item.label for item in val}
    return [f"{medium}: {len(alone)} classes are in only one of the splits test and val"] if alone else []


if __name__ == "__main__":
    run(xmedia)
