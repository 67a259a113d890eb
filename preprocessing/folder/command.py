"""Anyone's own data: a table of images and texts, or class folders with a text file beside each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.common.layout import Layout
from preprocessing.common.tables import numbered_lines
from preprocessing.folder.class_folders import samples_of_folders
from preprocessing.folder.columns import Columns
from preprocessing.folder.drawn import Fractions, with_splits
from preprocessing.folder.found import Found, notes_on_names
from preprocessing.folder.table_samples import samples_of_table
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
    image_column: str | None = None,
    text_column: tuple[str, ...] = (),
    label_column: tuple[str, ...] = (),
    split_column: str | None = None,
    classes: Path | None = None,
    name: str = "",
    seed: int | None = None,
    val: float | None = None,
    test: float | None = None,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from your own images and texts.

    With --table, a table with a row per image, or per text of an image. Its columns are image (a path within RAW);
    text, texts, caption or captions (in CSV also text2, text3, …); label or labels; split. In CSV, labels are parted by
    ";"; in JSONL, texts and labels may be lists. label and split may be absent.

    Without --table, class folders: <class>/<name>.jpg with <name>.txt beside it, one text a line.

    Where no splits are given, they are drawn; copies of a picture (the same bytes) stay in one split. Where the table
    has train without val or without test, --val and --test draw these from train.

    Example: python -m preprocessing.folder photos data/shards/photos --table photos/captions.csv --val 0.1 --test 0.2

    Args:
        raw: the folder that the images lie in
        out: the folder to write shards and manifest.json to
        table: a .csv or .tsv table with a header, or a .jsonl file, in UTF-8
        image_column: the table's column of image paths, if it is not called image
        text_column: the column of texts, or several, if they are not called text, texts, caption or captions
        label_column: the column of labels, or several, if it is not called label or labels
        split_column: the column of splits, if it is not called split
        classes: a text file with a class name a line: a sample with another label is skipped; by default, the classes
            are the labels that occur
        name: the dataset's name in manifest.json; by default, that of RAW
        seed: another seed draws other splits, where they are drawn; 0 by default
        val: share of each class that is drawn for validation, where no such split is given; 0.1 by default, and 0 if
            the table has splits
        test: share of each class that is drawn for testing, where no such split is given; as val by default
    """
    LAYOUT.require_folder(raw)
    columns = Columns(image_column, text_column, label_column, split_column)
    if columns.chosen and not table:
        raise XmrError(f"{next(iter(columns.chosen))} chooses a column of a table: name the table with --table")
    found = samples_of_table(raw, table, columns, outside=build.outside) if table else samples_of_folders(raw)
    if not found.samples and not found.skipped:
        raise LAYOUT.error("; ".join([f"{table or raw} holds no image with a text", *found.notes]))
    found = with_splits(found, raw, Fractions(val, test, seed))
    labels = sorted({label for sample in found.samples for label in sample.labels})
    manifest = build_shards(
        out,
        dataset=name or raw.resolve().name,
        classes=_read_classes(classes) if classes else labels,
        samples=found.samples,
        skipped=found.skipped,
        notes=[*found.notes, *_notes_on_classes(found, labels)],
        raw=None if table else raw,  # of a table, only what it names is looked at: RAW may be a whole disk
        options=build,
    )
    show_built(manifest, out)


def _notes_on_classes(found: Found, labels: Sequence[str]) -> list[str]:
    """Names that may be one, and classes that are measured but not learned."""
    trained = {label for sample in found.samples if sample.split == "train" for label in sample.labels}
    absent = [label for label in labels if label not in trained]
    missing = [f"{len(absent)} classes have no sample in train, such as {absent[0]}"] if absent and trained else []
    return [*notes_on_names(labels), *missing]


def _read_classes(path: Path) -> Sequence[str]:
    classes: dict[str, int] = {}
    for number, name in numbered_lines(path):
        if name in classes:
            raise XmrError(f"{path}, line {number}: the class {name!r} is already on line {classes[name]}")
        classes[name] = number
    if not classes:
        raise XmrError(f"{path} holds no class names; wanted is one a line")
    return list(classes)
