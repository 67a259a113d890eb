"""Shards from a table: its rows are read, their pictures kept as files meanwhile, and shards built of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from preprocessing.arrow.columns import Columns, find_columns, notes_on_columns
from preprocessing.arrow.options import ColumnOptions, PackOptions, SplitOptions
from preprocessing.arrow.pictures import Find, picture_folder
from preprocessing.arrow.rows import Part, Row, RowReader, check_splits
from preprocessing.arrow.schema import Schema
from preprocessing.folder.drawn import Fractions, with_splits
from preprocessing.folder.found import Found, notes_on_names
from xmr_e2e.bounds import check_bounds
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.adopt import order_classes
from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.manifest import NAME, Manifest, load_manifest


@dataclass(frozen=True)
class Table:
    """A table to be built."""

    dataset: str
    """its name in the manifest"""
    origin: str
    """where it comes from, for the manifest"""
    where: str
    """for errors"""
    schema: Schema
    parts: Sequence[Part]
    find: Find
    """what gives a picture at a path"""


def build(table: Table, out: Path, chosen: ColumnOptions, splits: SplitOptions, pack: PackOptions) -> Manifest | None:
    """Build shards of a table; return the manifest.

    Raises:
        XmrError: options or columns do not fit, a value that cannot be read, or as `build_shards`. Nothing is left.
    """
    for options in (splits, pack):
        check_bounds(options, "--")
    check_splits(splits.splits)
    has_splits = len(table.parts) > 1
    columns = find_columns(table.schema, chosen, table.where, split_column=splits.split_column, has_splits=has_splits)
    _check_place(out, table.origin, overwrite=pack.overwrite)
    with picture_folder(out) as pictures:
        reader = RowReader(columns, splits.splits, pictures, table.find)
        found = reader.read(table.parts, lambda part: _tracked(part, columns.used))
        found = with_splits(found, out, Fractions(splits.val, splits.test, splits.seed))
        return _pack(table, columns, found, out, pack)


def _pack(table: Table, columns: Columns, found: Found, out: Path, pack: PackOptions) -> Manifest | None:
    classes = _classes(found, columns.class_names)
    notes = notes_on_columns(table.schema, columns, table.origin)
    return build_shards(
        out,
        dataset=table.dataset,
        classes=classes,
        samples=found.samples,
        notes=[*notes, *found.notes, *notes_on_names(classes)],
        required=found.required,
        options=BuildOptions(**asdict(pack)),
    )


def _check_place(out: Path, origin: str, *, overwrite: bool) -> None:
    """Raise XmrError where OUT holds another dataset: before hours are spent on reading one."""
    if overwrite or not (out / NAME).exists():
        return
    present = load_manifest(out)
    if not any(note.startswith(f"from {origin}: ") for note in present.notes):
        raise XmrError(
            f"{out} already holds the dataset {present.dataset!r}; choose another folder, or replace it with "
            "--overwrite"
        )


def _classes(found: Found, class_names: dict[str, tuple[str, ...]]) -> Sequence[str]:
    """All names that the table has for its numbers, in their order, and the labels that occur besides."""
    named = [name for names in class_names.values() for name in names]
    others = {label for sample in found.samples for label in sample.labels} - {*named}
    return list(dict.fromkeys([*named, *order_classes(others)]))


def _tracked(part: Part, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a part, with a progress bar."""
    title = TextColumn(f"reading {part.name or 'rows'}", markup=False)
    with Progress(title, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        yield from bar.track(part.rows(columns), total=part.count)
