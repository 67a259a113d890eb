"""Samples of a table with a row for each sample, or for each text of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preprocessing.common.splits import canonical_split
from preprocessing.common.tables import TAB_SUFFIXES, Row, read_csv, read_jsonl
from preprocessing.folder.columns import Columns, UsedColumns, find_columns, notes_on_columns
from preprocessing.folder.found import Found, Unused, is_foreign, modality_of
from preprocessing.folder.table_paths import path_in_cell, plain
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.raw import RawSample, RawTree
from xmr_e2e.shards.schema import is_litter

CSV_SUFFIXES = (".csv", *TAB_SUFFIXES)
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
USUAL_NAMES = tuple(f"table{suffix}" for suffix in (*CSV_SUFFIXES, *JSON_SUFFIXES))
"""of a table that is found where none is named"""


@dataclass(frozen=True)
class _Parsed:
    """A row's sample, which has no source yet."""

    where: str
    files: Mapping[str, str]
    """modality -> path within the folder, in the order of modalities"""
    sample: RawSample


def tables_in(raw: Path) -> list[Path]:
    """The tables that lie in the folder under their usual names."""
    return [raw / name for name in USUAL_NAMES if (raw / name).is_file()]


def samples_of_table(raw: Path, table: Path, chosen: Columns = Columns(), *, outside: bool = False) -> Found:
    """The samples of a CSV or JSONL table; paths in it are relative to `raw`.

    Rows of the same files with the same labels and split are one sample with the texts of all of them. A row may lack
    any modality; but where there are pairs of pictures and texts and nothing else, all samples must be such.

    outside: whether links in `raw` may lead out of it.

    Raises:
        XmrError: a column is missing, a value has a wrong type, a row has neither file nor text, a path leaves `raw`,
            rows of the same files have other labels or splits, or some rows have a split and some have none.
    """
    suffix = table.suffix.lower()
    if suffix in CSV_SUFFIXES:
        columns, rows = read_csv(table, chosen.is_known)
    elif suffix in JSON_SUFFIXES:
        rows = read_jsonl(table)
        columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    else:
        raise XmrError(f"{table}: the table must be a .csv or a .jsonl file (or .tsv, .json, .ndjson)")
    used = find_columns(table, columns, chosen)
    has_splits = _check_splits(rows, used.split)
    separator = ";" if suffix in CSV_SUFFIXES else None  # JSON has lists for that
    within = None if outside else RawTree(raw)
    parsed = [_parse(raw, within, row, used, has_splits, label_separator=separator) for row in rows]
    samples = _with_sources(_join_rows(raw, parsed))
    notes = notes_on_columns(table, columns, used, rows)
    if len(samples) < len(rows):
        what = "samples" if used.has_media else "pictures"
        notes.append(f"{table.name}: {len(rows)} rows are of {len(samples)} {what}, whose texts are put together")
    has_pairs = any(sample.image and sample.texts for sample in samples)
    return Found(
        samples,
        has_splits,
        notes=[*notes, *_notes_on_unlisted(raw, samples)],
        required=("image", "text") if has_pairs and not used.has_media else (),
        is_listed=True,
    )


def _check_splits(rows: Sequence[Row], column: str) -> bool:
    """True where the rows have splits: all or none must."""
    given = [row for row in rows if _split_of(row, column)]
    absent = [row for row in rows if not _split_of(row, column)]
    if given and absent:
        raise XmrError(f"{given[0].where} has a split, but {absent[0].where} has none; give all rows a split, or none")
    return bool(given)


def _split_of(row: Row, column: str) -> str:
    value = row.cells.get(column)
    return "" if value is None else str(value).strip()


def _parse(
    raw: Path,
    within: RawTree | None,
    row: Row,
    used: UsedColumns,
    has_splits: bool,
    *,
    label_separator: str | None,
) -> _Parsed:
    found = {modality: path_in_cell(raw, within, row, column) for modality, column in used.files.items()}
    files = {modality: path for modality, path in found.items() if path is not None}
    texts = tuple(text for name in used.texts for text in _strings(row, name) if text)
    if not files and not any(text.strip() for text in texts):
        raise XmrError(f"{row.where}: nothing stands in {', '.join((*used.files.values(), *used.texts))}")
    labels = [text for name in used.labels for text in _strings(row, name)]
    if label_separator:
        labels = [part for text in labels for part in text.split(label_separator)]
    sample = RawSample(
        source="",
        split=canonical_split(_split_of(row, used.split), row.where) if has_splits else "",
        image=raw / files["image"] if "image" in files else None,
        texts=texts,
        labels=tuple(label.strip() for label in labels if label.strip()),
        media={modality: raw / path for modality, path in files.items() if modality != "image"},
    )
    return _Parsed(row.where, files, sample)


def _strings(row: Row, name: str) -> list[str]:
    value: Any = row.cells.get(name)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    if not all(type(item) in (str, int) for item in values):
        raise XmrError(f'{row.where}: "{name}" must be a string or a list of strings')
    return [str(item) for item in values]


def _join_rows(raw: Path, rows: Sequence[_Parsed]) -> list[_Parsed]:
    """One row for the same files, with the texts of all their rows, each once. Texts without a file stay as they are.

    Raises:
        XmrError: rows of the same files have other labels or another split; both lines are named.
    """
    by_files: dict[object, list[_Parsed]] = {}
    for row in rows:
        files = tuple((modality, plain(raw / path)) for modality, path in row.files.items())
        by_files.setdefault(files or row.where, []).append(row)
    return [_join(same) if len(same) > 1 else same[0] for same in by_files.values()]


def _join(rows: Sequence[_Parsed]) -> _Parsed:
    first = rows[0]
    for row in rows[1:]:
        for what, one, other in (
            ("labels", sorted({*first.sample.labels}), sorted({*row.sample.labels})),
            ("splits", [first.sample.split], [row.sample.split]),
        ):
            if one != other:
                what_of = "picture" if list(first.files) == ["image"] else "sample"
                raise XmrError(
                    f"{first.where} and {row.where.rpartition(', ')[2]} are both of {' + '.join(first.files.values())} "
                    f"and have other {what}: {', '.join(one) or 'none'} and {', '.join(other) or 'none'}; rows of one "
                    f"{what_of} become one sample with several texts, so each row needs all its labels and the same "
                    "split"
                )
    texts = tuple(dict.fromkeys(text for row in rows for text in row.sample.texts))
    return replace(first, sample=replace(first.sample, texts=texts))


def _with_sources(rows: Sequence[_Parsed]) -> list[RawSample]:
    """The rows' samples, each called by the path of its first file; by all of them, where others have the same first.

    A text without a file is called by its number among such texts.
    """
    shared = Counter(next(iter(row.files.values()), "") for row in rows)
    samples, texts = [], 0
    for row in rows:
        first = next(iter(row.files.values()), "")
        texts += not first
        source = first if shared[first] == 1 else " + ".join(row.files.values())
        samples.append(replace(row.sample, source=source if first else f"text/{texts:06d}"))
    return samples


def _notes_on_unlisted(raw: Path, samples: Sequence[RawSample]) -> list[str]:
    """Files beside those of the table that are in no row of it, and pictures of the table that are not read."""
    unused = Unused()
    listed = {plain(path) for sample in samples for path in sample.files.values()}
    for folder in sorted({path.parent for path in listed if path.parent.is_dir()}):
        for path in sorted(folder.iterdir()):
            if path in listed or is_litter(path.name):
                continue
            modality = "image" if is_foreign(path) else modality_of(path)
            if modality:
                what = "pictures" if modality == "image" else f"{modality} files"
                unused.add(f"{what} are in no row of the table and not used", path.relative_to(plain(raw)).as_posix())
    for sample in samples:
        if sample.image and is_foreign(sample.image):
            unused.add_foreign(sample.image, sample.source)
    return unused.notes()
