"""Anyone's own data: a table of images and texts, or class folders with a text file beside each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from preprocessing.command import OutFolder, RawFolder, run, show_built
from preprocessing.folder_samples import Found, samples_of_folders, samples_of_table
from preprocessing.layout import Layout
from preprocessing.splits import draw_splits
from preprocessing.tables import numbered_lines
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, build_shards

LAYOUT = Layout(
    "Your own data",
    (
        "<class>/<name>.jpg with <name>.txt beside it (one text a line)",
        "or any folder of images, with --table FILE.csv or FILE.jsonl that has image, text, label and split",
    ),
    "See python -m preprocessing.folder --help",
)


def folder(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    table: Path | None = None,
    classes: Path | None = None,
    name: str = "",
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.1,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from your own images and texts.

    With --table, a table with a row per image. Its columns are image (a path within RAW); text, texts, caption or
    captions (in CSV also text2, text3, …); label or labels; split. In CSV, labels are parted by ";"; in JSONL, texts
    and labels may be lists. label and split may be absent.

    Without --table, class folders: <class>/<name>.jpg with <name>.txt beside it, one text a line.

    Example: python -m preprocessing.folder photos data/shards/photos --table photos/captions.csv --val 0.1 --test 0.2

    Args:
        raw: the folder that the images lie in
        out: the folder to write shards and manifest.json to
        table: a .csv table with a header, or a .jsonl file, in UTF-8
        classes: a text file with a class name a line: a sample with another label is skipped; by default, the classes
            are the labels that occur
        name: the dataset's name in manifest.json; by default, that of RAW
        seed: another seed draws other splits, where none are given
        val: share of each class that is drawn for validation, where no splits are given
        test: share of each class that is drawn for testing, where no splits are given
    """
    LAYOUT.require_folder(raw)
    found = samples_of_table(raw, table) if table else samples_of_folders(raw)
    if not found.samples and not found.skipped:
        raise LAYOUT.error(f"{table or raw} holds no image with a text")
    found = _with_splits(found, val=val, test=test, seed=seed)
    labels = sorted({label for sample in found.samples for label in sample.labels})
    manifest = build_shards(
        out,
        dataset=name or raw.resolve().name,
        classes=_read_classes(classes) if classes else labels,
        samples=found.samples,
        skipped=found.skipped,
        notes=found.notes,
        options=build,
    )
    show_built(manifest, out)


def _with_splits(found: Found, *, val: float, test: float, seed: int) -> Found:
    """The samples as they are if they have splits, or with splits drawn for each class (the first label counts)."""
    if found.has_splits:
        return found
    class_of = {sample.source: sample.labels[0] if sample.labels else "" for sample in found.samples}
    # What cannot be used takes its place in a split too, so that mending it moves no other sample.
    class_of |= {item.source: item.source.partition("/")[0] for item in found.skipped}
    splits = draw_splits(class_of, val=val, test=test, seed=seed)
    return replace(
        found,
        samples=[replace(sample, split=splits[sample.source]) for sample in found.samples],
        skipped=[replace(item, split=splits[item.source]) for item in found.skipped],
    )


def _read_classes(path: Path) -> Sequence[str]:
    classes: dict[str, int] = {}
    for number, name in numbered_lines(path):
        if name in classes:
            raise XmrError(f"{path}, line {number}: the class {name!r} is already on line {classes[name]}")
        classes[name] = number
    if not classes:
        raise XmrError(f"{path} holds no class names; wanted is one a line")
    return list(classes)


if __name__ == "__main__":
    run(folder)
