"""Embeddings of many items as a Parquet file, written as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmr_e2e.engine.saved_model import SavedModel
from xmr_e2e.errors import XmrError
from xmr_e2e.portable.sources import Rows, Skipped, Source

ROWS = 4096
"""of a row group, at least: what is held in memory"""


def write_embeddings(
    model: SavedModel,
    sources: Sequence[Source],
    out: Path,
    skipped: Skipped,
    done: Callable[[int], object] = lambda items: None,
) -> int:
    """Embed all items of the sources into a Parquet file; returns its number of rows.

    Its columns are id, modality, text (null where there is none) and embedding, a list of d float32; the schema's
    metadata say the model's fingerprint and the similarity by which its embeddings are compared. The file is whole or
    not there.

    Args:
        done: called with the number of items that are done since the last call.

    Raises:
        XmrError: nothing to embed, more files that cannot be used than are allowed, or a file that cannot be written.
    """
    unfinished = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        count = _write(model, sources, unfinished, skipped, done)
        os.replace(unfinished, out)
    except OSError as error:
        raise XmrError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        if unfinished.exists():
            unfinished.unlink()
    return count


def _write(
    model: SavedModel, sources: Sequence[Source], path: Path, skipped: Skipped, done: Callable[[int], object]
) -> int:
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.RecordBatch] = []
    count = 0
    try:
        for rows in (rows for source in sources for rows in source.embed(model, skipped)):
            writer = writer or pq.ParquetWriter(path, _schema(model, rows), use_dictionary=["modality"])
            waiting.append(_batch(rows, writer.schema))
            count += len(rows.ids)
            done(rows.passed)
            if sum(map(len, waiting)) >= ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if writer is None:
            raise XmrError("there is nothing to embed" + "".join(f"\n  {reason}" for reason in skipped.reasons))
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    finally:
        if writer is not None:
            writer.close()
    return count


def _schema(model: SavedModel, rows: Rows) -> pa.Schema:
    columns = {
        "id": pa.string(),
        "modality": pa.string(),
        "text": pa.string(),
        "embedding": pa.list_(pa.float32(), rows.embeddings.shape[1]),
    }
    about = {"fingerprint": model.fingerprint, "similarity": model.similarity, "selection": model.selection}
    return pa.schema(columns, metadata=about)


def _batch(rows: Rows, schema: pa.Schema) -> pa.RecordBatch:
    values = pa.array(np.ascontiguousarray(rows.embeddings, dtype=np.float32).reshape(-1))
    embeddings = pa.FixedSizeListArray.from_arrays(values, type=schema.field("embedding").type)
    columns = [pa.array(rows.ids), pa.array([rows.modality] * len(rows.ids)), pa.array(rows.texts, pa.string())]
    return pa.record_batch([*columns, embeddings], schema=schema)
