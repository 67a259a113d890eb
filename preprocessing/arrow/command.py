"""`xmr shards from-hf` and `xmr shards from-parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from preprocessing.arrow.options import ColumnOptions, PackOptions, SplitOptions
from preprocessing.common.command import OutFolder
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra

if TYPE_CHECKING:
    from preprocessing.arrow.pictures import Find
    from preprocessing.arrow.rows import Part, Row
    from preprocessing.arrow.schema import Schema
    from preprocessing.folder.found import Found


def from_hf_command(
    dataset: Annotated[str, arg(metavar="DATASET")],
    out: OutFolder,
    /,
    *,
    subset: str | None = None,
    revision: str | None = None,
    name: str = "",
    columns: Annotated[ColumnOptions, OmitArgPrefixes] = ColumnOptions(),
    splits: Annotated[SplitOptions, OmitArgPrefixes] = SplitOptions(),
    pack: Annotated[PackOptions, OmitArgPrefixes] = PackOptions(),
) -> None:
    """Build shards from a dataset of the Hugging Face hub, or from a folder that its library datasets reads: what
    save_to_disk has written, Parquet files, or folders of pictures (imagefolder). Pictures keep their bytes; sounds and
    videos do not come over.

    Example: xmr shards from-hf jxie/flickr8k data/shards/flickr8k

    Args:
        dataset: USER/NAME on the hub, or a folder
        out: the folder to write shards and manifest.json to
        subset: which of the dataset's configurations, where it has several
        revision: a commit, branch or tag of the hub; by default the newest, whose commit the manifest names
        name: the dataset's name in manifest.json; by default that of DATASET
        columns: by default those that can be nothing else
        splits: by default as they are published; drawn where there is one alone
        pack: the shards
    """
    require_extra("datasets", "xmr shards from-hf")
    from preprocessing.arrow.hub import OnDisk, Published, common_schema, parts_of
    from xmr_e2e.shards.raw import RawTree

    folder = Path(dataset)
    if folder.is_dir():
        if revision:
            raise XmrError(f"--revision {revision}: {dataset} is a folder, which has none; leave out the option")
        source: OnDisk | Published = OnDisk(folder, subset, None if pack.outside else RawTree(folder))
    else:
        source = Published(dataset, subset, revision)
    _build(
        out,
        common_schema(source),
        parts_of(source),
        source.find,
        dataset=name or (folder.resolve().name if folder.is_dir() else dataset),
        origin=source.origin,
        where=source.where,
        chosen=columns,
        splits=splits,
        pack=pack,
    )


def from_parquet_command(
    files: Annotated[str, arg(metavar="FILES")],
    out: OutFolder,
    /,
    *,
    name: str = "",
    columns: Annotated[ColumnOptions, OmitArgPrefixes] = ColumnOptions(),
    splits: Annotated[SplitOptions, OmitArgPrefixes] = SplitOptions(),
    pack: Annotated[PackOptions, OmitArgPrefixes] = PackOptions(),
) -> None:
    """Build shards from Parquet files with a column of pictures (bytes, {bytes, path} as datasets writes it, or paths
    beside the file), texts and labels. The names of files or their folders begin with the split, or no splits are
    given. Pictures keep their bytes; sounds and videos do not come over.

    Example: xmr shards from-parquet exported data/shards/again

    Args:
        files: a file, a folder of .parquet files, or a pattern in quotes
        out: the folder to write shards and manifest.json to
        name: the dataset's name in manifest.json; by default that of FILES
        columns: by default those that can be nothing else
        splits: by default as the files are called; drawn where there is one alone
        pack: the shards
    """
    require_extra("parquet", "xmr shards from-parquet")
    from functools import partial

    from preprocessing.arrow.parquet_files import common_schema, find_files, find_picture, parts_of
    from xmr_e2e.shards.raw import RawTree

    found = find_files(files)
    schema, written = common_schema(found)
    folder = Path(files) if Path(files).is_dir() else found[0].parent
    origin = found[0].name if len(found) == 1 else f"{len(found)} Parquet files, such as {found[0].name}"
    _build(
        out,
        schema,
        parts_of(found),
        partial(find_picture, folder, None if pack.outside else RawTree(folder)),
        dataset=name or written or (Path(files) if Path(files).exists() else folder).resolve().stem,
        origin=origin,
        where=files,
        chosen=columns,
        splits=splits,
        pack=pack,
    )


def _build(
    out: Path,
    schema: Schema,
    parts: Sequence[Part],
    find: Find,
    *,
    dataset: str,
    origin: str,
    where: str,
    chosen: ColumnOptions,
    splits: SplitOptions,
    pack: PackOptions,
) -> None:
    """Read a table's rows, keep their pictures as files meanwhile, and build shards of them.

    Args:
        origin: where the table comes from, for the manifest; `where` is for errors.
    """
    from dataclasses import asdict

    from preprocessing.arrow.columns import find_columns, notes_on_columns
    from preprocessing.arrow.pictures import picture_folder
    from preprocessing.arrow.rows import RowReader, check_splits
    from preprocessing.common.command import show_built
    from preprocessing.folder.drawn import Fractions, with_splits
    from preprocessing.folder.found import notes_on_names
    from xmr_e2e.bounds import check_bounds
    from xmr_e2e.shards.build import BuildOptions, build_shards

    for options in (splits, pack):
        check_bounds(options, "--")
    check_splits(splits.splits)
    columns = find_columns(schema, chosen, where, split_column=splits.split_column, has_splits=len(parts) > 1)
    _check_place(out, origin, overwrite=pack.overwrite)
    with picture_folder(out) as pictures:
        found = RowReader(columns, splits.splits, pictures, find).read(parts, lambda part: _tracked(part, columns.used))
        found = with_splits(found, out, Fractions(splits.val, splits.test, splits.seed))
        classes = _classes(found, columns.class_names)
        manifest = build_shards(
            out,
            dataset=dataset,
            classes=classes,
            samples=found.samples,
            notes=[*notes_on_columns(schema, columns, origin), *found.notes, *notes_on_names(classes)],
            required=found.required,
            options=BuildOptions(**asdict(pack)),
        )
    show_built(manifest, out)


def _check_place(out: Path, origin: str, *, overwrite: bool) -> None:
    """Raise XmrError where OUT holds another dataset: before hours are spent on reading one."""
    from xmr_e2e.shards.manifest import NAME, load_manifest

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
    from xmr_e2e.shards.adopt import order_classes

    named = [name for names in class_names.values() for name in names]
    others = {label for sample in found.samples for label in sample.labels} - {*named}
    return list(dict.fromkeys([*named, *order_classes(others)]))


def _tracked(part: Part, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a part, with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from xmr_e2e.console import Console

    title = TextColumn(f"reading {part.name or 'rows'}", markup=False)
    rows: Iterable[Row] = part.rows(columns)
    with Progress(title, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        yield from bar.track(rows, total=part.count)
