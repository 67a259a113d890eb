"""Embeddings of many items as a file: Parquet, written as they come, or numpy's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.models.sources import Rows, Skipped, Source

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 4096
"""of a row group, at least: what is held in memory"""


def require_writable(out: Path) -> None:
    """Raise XmrError for a name whose ending stands for no format here, or for one whose package is missing, and for a
    folder; before anything is embedded.

    A file of another format under a name such as x.csv would be opened as what it is not.
    """
    if out.suffix.lower() not in _WRITERS:
        raise XmrError(f"--out {out}: the name must end in {', '.join(_WRITERS)}, by which the format is chosen")
    if out.suffix.lower() == ".parquet":
        require_extra("parquet", f"--out {out}")
    if out.is_dir():
        raise XmrError(f"--out {out} is a folder; name a file in it")


def write_embeddings(
    model: SavedModel,
    sources: Sequence[Source],
    out: Path,
    skipped: Skipped,
    done: Callable[[int], object] = lambda items: None,
) -> int:
    """Embed all items of the sources into a file; returns its number of rows.

    The columns of a Parquet file are id, modality, text (null where there is none) and embedding, a list of d float32;
    the schema's metadata say the model's fingerprint and the similarity by which its embeddings are compared. An .npz
    file has arrays of these names, with "" for no text; an .npy file the embeddings (n, d) alone. The file is whole or
    not there.

    Args:
        done: called with the number of items that are done since the last call.

    Raises:
        XmrError: nothing to embed, more files that cannot be used than are allowed, or a file that cannot be written.
    """
    require_writable(out)
    unfinished = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        count = _WRITERS[out.suffix.lower()](model, _embedded(model, sources, skipped, done), unfinished)
        if not count:
            raise XmrError("there is nothing to embed" + "".join(f"\n  {reason}" for reason in skipped.reasons))
        os.replace(unfinished, out)
    except OSError as error:
        raise XmrError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        if unfinished.exists():
            unfinished.unlink()
    return count


def _embedded(
    model: SavedModel, sources: Sequence[Source], skipped: Skipped, done: Callable[[int], object]
) -> Iterator[Rows]:
    for source in sources:
        for rows in source.embed(model, skipped):
            if model.tokenizer is not None:
                named = zip(rows.ids, rows.texts)
                skipped.unknown += [name for name, text in named if text and model.unknown_words(text).is_all]
            yield rows
            done(rows.passed)


def _write_parquet(model: SavedModel, embedded: Iterable[Rows], path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    writer: parquet.ParquetWriter | None = None
    waiting: list[pa.RecordBatch] = []
    count = 0
    try:
        for rows in embedded:
            writer = writer or parquet.ParquetWriter(path, _schema(model, rows), use_dictionary=["modality"])
            waiting.append(_batch(rows, writer.schema))
            count += len(rows.ids)
            if sum(map(len, waiting)) >= ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if writer is not None and waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    finally:
        if writer is not None:
            writer.close()
    return count


def _write_npz(model: SavedModel, embedded: Iterable[Rows], path: Path) -> int:
    if not (parts := list(embedded)):
        return 0
    columns: dict[str, Any] = {
        "id": [name for rows in parts for name in rows.ids],
        "modality": [rows.modality for rows in parts for _ in rows.ids],
        "text": [text or "" for rows in parts for text in rows.texts],
        "embedding": _matrix(parts),
        **_about(model),
    }
    with open(path, "wb") as stream:
        np.savez(stream, **columns)
    return len(columns["embedding"])


def _write_npy(model: SavedModel, embedded: Iterable[Rows], path: Path) -> int:
    if not (parts := list(embedded)):
        return 0
    matrix = _matrix(parts)
    with open(path, "wb") as stream:
        np.save(stream, matrix)
    return len(matrix)


_WRITERS: dict[str, Callable[[SavedModel, Iterable[Rows], Path], int]] = {
    ".parquet": _write_parquet,
    ".npz": _write_npz,
    ".npy": _write_npy,
}


def _matrix(parts: Sequence[Rows]) -> NDArray[np.float32]:
    return np.concatenate([rows.embeddings for rows in parts]).astype(np.float32)


def _about(model: SavedModel) -> dict[str, str]:
    return {"fingerprint": model.fingerprint, "similarity": model.similarity, "selection": model.selection}


def _schema(model: SavedModel, rows: Rows) -> pa.Schema:
    import pyarrow as pa

    columns = {
        "id": pa.string(),
        "modality": pa.string(),
        "text": pa.string(),
        "embedding": pa.list_(pa.float32(), rows.embeddings.shape[1]),
    }
    return pa.schema(columns, metadata=_about(model))


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    values = pa.array(np.ascontiguousarray(rows.embeddings, dtype=np.float32).reshape(-1))
    embeddings = pa.FixedSizeListArray.from_arrays(values, type=schema.field("embedding").type)
    columns = [pa.array(rows.ids), pa.array([rows.modality] * len(rows.ids)), pa.array(rows.texts, pa.string())]
    return pa.record_batch([*columns, embeddings], schema=schema)
