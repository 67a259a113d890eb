"""Anyone's own data: a table of files and texts, or class folders, with any of five modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.common.layout import Layout
from preprocessing.common.media import MediaOptions
from preprocessing.common.tables import numbered_lines
from preprocessing.folder.class_folders import samples_of_folders
from preprocessing.folder.columns import Columns
from preprocessing.folder.drawn import Fractions, with_splits
from preprocessing.folder.found import Found, notes_on_names
from preprocessing.folder.table_samples import samples_of_table, tables_in
from preprocessing.synthetic import is_synthetic
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.schema import MEDIA_EXTENSIONS

LAYOUT = Layout(
    "Your own data",
    (
        "<class>/<name>.jpg with <name>.txt beside it (one text a line)",
        f"or <class>/<name> in {', '.join(name for names in MEDIA_EXTENSIONS.values() for name in names)}, paired "
        "by their names or not",
        "or <train, val or test>/<class>/<name>.jpg",
        "or any folder, with --table FILE.csv or FILE.jsonl (or table.csv, table.jsonl in it) that has some of image, "
        "text, audio, video and shape3d, and label and split",
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
    audio_column: str | None = None,
    video_column: str | None = None,
    shape3d_column: str | None = None,
    label_column: tuple[str, ...] = (),
    split_column: str | None = None,
    classes: Path | None = None,
    name: str = "",
    seed: int | None = None,
    val: float | None = None,
    test: float | None = None,
    media: MediaOptions = MediaOptions(),
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from your own pictures, texts, sounds, videos and 3D shapes, paired or not.

    With --table, or with table.csv or table.jsonl in RAW: a row per sample, or per text of a sample. Its columns are
    image, audio, video and shape3d (paths within RAW); text, texts, caption or captions (in CSV also text2, text3, …);
    label or labels; split. In CSV, labels are parted by ";"; in JSONL, texts and labels may be lists. Any may be absent
    or empty.

    Without a table, class folders: <class>/<name>.jpg with <name>.txt beside it, one text a line, or files of any kind,
    where those of one name are one sample. Folders called train, val and test that hold class folders are the splits.

    Where no splits are given, they are drawn; copies of a file (the same bytes) stay in one split. Where there is train
    without val or without test, --val and --test draw these from train.

    Example: python -m preprocessing.folder photos data/shards/photos --table photos/captions.csv --val 0.1 --test 0.2

    Args:
        raw: the folder that the files lie in
        out: the folder to write shards and manifest.json to
        table: a .csv or .tsv table with a header, or a .jsonl file, in UTF-8
        image_column: the table's column of image paths, if it is not called image
        text_column: the column of texts, or several, if they are not called text, texts, caption or captions
        audio_column: the column of paths of sounds, if it is not called audio
        video_column: the column of paths of videos, if it is not called video
        shape3d_column: the column of paths of 3D shapes, if it is not called shape3d
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
    files = {"audio": audio_column, "video": video_column, "shape3d": shape3d_column}
    columns = Columns(image_column, text_column, label_column, split_column, **files)
    found = _find_samples(raw, table, columns, outside=build.outside)
    media.check(found.samples)
    found = with_splits(found, raw, Fractions(val, test, seed))
    labels = sorted({label for sample in found.samples for label in sample.labels})
    manifest = build_shards(
        out,
        dataset=_dataset_name(name or raw.resolve().name, raw),
        classes=_read_classes(classes) if classes else labels,
        samples=found.samples,
        skipped=found.skipped,
        notes=[*found.notes, *_notes_on_classes(found, labels)],
        required=found.required,
        raw=None if found.is_listed else raw,  # of a table, only what it names is looked at: RAW may be a whole disk
        options=build,
        media=media,
    )
    show_built(manifest, out)


def _find_samples(raw: Path, table: Path | None, columns: Columns, *, outside: bool) -> Found:
    """The samples of the table that is named, or of class folders of pictures with texts; else of a table in `raw`, or
    of class folders of any files.

    Raises:
        XmrError: there are none; or columns are chosen, and there is no table.
    """
    tables = [] if table else tables_in(raw)
    found = None
    if not table and not (tables and columns.chosen):
        found = samples_of_folders(raw)
        if tables and found.samples and found.required:
            found.notes.append(f"{tables[0].name} is not read, since there are class folders: name it with --table")
            tables = []
    if len(tables) > 1:
        raise XmrError(f"{raw} holds {' and '.join(each.name for each in tables)}; say with --table which is meant")
    table = table or next(iter(tables), None)
    if columns.chosen and not table:
        raise XmrError(f"{next(iter(columns.chosen))} chooses a column of a table: name the table with --table")
    if table or found is None:
        assert table is not None
        found = samples_of_table(raw, table, columns, outside=outside)
    if not found.samples and not found.skipped:
        problem = f"{table or raw} holds no image with a text, no sound, video or shape"
        raise LAYOUT.error("; ".join([problem, *found.notes]))
    return found


def _dataset_name(name: str, raw: Path) -> str:
    """The name, which says of a synthetic set that it is one."""
    return f"synthetic ({name} layout)" if is_synthetic(raw) else name


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
