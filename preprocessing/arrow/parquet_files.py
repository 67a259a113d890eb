"""Parquet files as a table in parts. They are read a few rows at a time."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.arrow.rows import Part, Row
from preprocessing.arrow.schema import Schema, read_schema
from preprocessing.common.splits import ALIASES
from preprocessing.folder.table_paths import plain
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line, shortened
from xmr_e2e.shards.parquet import DATASET
from xmr_e2e.shards.raw import RawTree

ROWS = 16
"""read at a time: of pictures, some megabytes"""
_SPLIT = re.compile(rf"({'|'.join(ALIASES)})(?![a-z0-9])", re.IGNORECASE)
"""how the name of a file begins that says which split it is"""


def find_files(given: str) -> list[Path]:
    """The Parquet files that a path stands for: a file, a folder with all within it, or a pattern.

    Raises:
        XmrError: there are none.
    """
    path = Path(given)
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    else:
        found = [path] if path.exists() else sorted(map(Path, glob.glob(given, recursive=True)))  # noqa: PTH207  # absolute, too
    files = [each for each in found if each.is_file()]
    if not files:
        raise XmrError(f"{given}: no Parquet files; wanted is a file, a folder that holds some, or a pattern in quotes")
    return files


def parts_of(files: Sequence[Path]) -> list[Part]:
    """The files by their splits, as each one's name begins (train-00000.parquet), or as its folder is called.

    Raises:
        XmrError: some say it and some do not, or a file cannot be read.
    """
    names = {path: _split_name(path) for path in files}
    unnamed = [path for path, name in names.items() if not name]
    if unnamed and any(names.values()):
        raise XmrError(
            f"{unnamed[0]}: its name does not begin with a split's ({', '.join(ALIASES)}), as those of others do; "
            "rename it, or name the files of one split alone"
        )
    groups: dict[str, list[Path]] = {}
    for path, name in names.items():
        groups.setdefault(name, []).append(path)
    return [_part(name, paths) for name, paths in groups.items()]


def common_schema(files: Sequence[Path]) -> tuple[Schema, str]:
    """The columns of all files, and the name of the dataset that one of `xmr shards to-parquet` has.

    Raises:
        XmrError: a file cannot be read, or has other columns than the first.
    """
    first = _arrow_schema(files[0])
    schema = read_schema(first, str(files[0]))
    for path in files[1:]:
        other = read_schema(_arrow_schema(path), str(path))
        if other != schema:
            raise XmrError(f"{path}: its columns are not those of {files[0]}: {_difference(schema, other)}")
    return schema, (first.metadata or {}).get(DATASET, b"").decode(errors="replace")


def find_picture(folder: Path, within: RawTree | None, path: str, where: str) -> Path:
    """The file at a path that stands in a table, relative to the table's folder.

    Args:
        within: the same folder, out of which nothing may lead; None where paths may.

    Raises:
        XmrError: it leads out of the folder.
    """
    if "\0" in path:
        raise XmrError(f"{where}: {shortened(path)} is no path")
    file = folder / path
    if within and not (plain(file).is_relative_to(plain(folder)) and within.holds(file)):
        raise within.error(f"{where}: {shortened(path, quoted=False)}")
    return file


def _split_name(path: Path) -> str:
    found = _SPLIT.match(path.name)
    return ALIASES.get((found[1] if found else path.parent.name).lower(), "")


def _part(name: str, paths: Sequence[Path]) -> Part:
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return Part(name, where, partial(_rows, paths), sum(map(_count, paths)))


def _rows(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[Row]:
    for path in paths:
        with reading(path), _open(path) as file:
            for batch in file.iter_batches(batch_size=ROWS, columns=list(columns)):
                yield from batch.to_pylist()


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)


def _count(path: Path) -> int:
    with reading(path), _open(path) as file:
        return int(file.metadata.num_rows)


def _arrow_schema(path: Path) -> pa.Schema:
    with reading(path), _open(path) as file:
        return file.schema_arrow


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise what is wrong with a file as XmrError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise XmrError(f"{path}: cannot be read as Parquet: {first_line(error)}") from error


def _difference(one: Schema, other: Schema) -> str:
    if names := one.types.keys() ^ other.types.keys():
        return f"{shortened(min(names))} is in one of them"
    differ = [name for name in one.types if one.types[name] != other.types[name]]
    return f"{shortened(differ[0])} has another type" if differ else "their features differ"
