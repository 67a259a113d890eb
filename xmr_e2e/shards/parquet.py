"""A folder of shards as Parquet files, in the form that Hugging Face's `datasets` reads: pictures, texts, classes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.index import ShardIndex, Span, load_index
from xmr_e2e.shards.manifest import Manifest, Shard, load_manifest
from xmr_e2e.shards.record import Record, read_record
from xmr_e2e.shards.remote.mount import load_mount, open_tar

DATASET = b"xmr_e2e"
"""the key of the schema's metadata under which a file has the dataset's name"""
FULL_NAMES = {"val": "validation"}
"""of splits, as `datasets` calls them"""
GROUP_ROWS = 100
GROUP_BYTES = 2**25
"""of a row group, which is held in memory: the first row that goes beyond it is its last"""


@dataclass
class Written:
    """Files and numbers of samples, for the console."""

    files: list[str] = field(default_factory=list)
    samples: int = 0
    empty: int = 0
    """samples with neither picture nor text, which are left out"""


def write_parquet(folder: Path, out: Path) -> Written:
    """Write a file for each shard: train-00000-of-00003.parquet. All of them are there at the end, or none.

    Its columns are `key`; `image`, the bytes as they are stored; `captions`; `label`, or `labels` of a set with several
    labels per sample, where there are classes; and `source`.

    Raises:
        XmrError: `out` holds something; the folder is none of shards, or damaged; or no sample has a picture or a text.
    """
    manifest = load_manifest(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise XmrError(f"{out} is there already, and not empty; choose another folder, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        written = _write_all(folder, manifest, unfinished)
        if not written.samples:
            raise XmrError(f"{folder} has neither pictures nor texts, and nothing else is written as Parquet")
        unfinished.chmod(0o777 & ~_umask())
        os.replace(unfinished, out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return written


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _write_all(folder: Path, manifest: Manifest, out: Path) -> Written:
    written = Written()
    schema = arrow_schema(manifest)
    for split, about in manifest.splits.items():
        for number, shard in enumerate(about.shards):
            name = f"{FULL_NAMES.get(split, split)}-{number:05d}-of-{len(about.shards):05d}.parquet"
            _write_shard(folder, manifest, shard, out / name, schema, written)
            written.files.append(name)
    return written


def _write_shard(
    folder: Path, manifest: Manifest, shard: Shard, path: Path, schema: pa.Schema, written: Written
) -> None:
    rows: list[dict[str, Any]] = []
    size = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for record in _records(folder, manifest, shard):
            if record.image is None and not record.metadata.texts:
                written.empty += 1
                continue
            rows.append(_row(record))
            size += len(record.image or b"")
            written.samples += 1
            if len(rows) == GROUP_ROWS or size > GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows, size = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _records(folder: Path, manifest: Manifest, shard: Shard) -> Iterator[Record]:
    index: ShardIndex = load_index(folder / shard.name, shard, len(manifest.classes))
    descriptor = open_tar(folder, shard, load_mount(folder))
    with open(descriptor, "rb") as stream:

        def read(span: Span) -> bytes:
            stream.seek(span[0])
            return stream.read(span[1])

        for row in range(len(index)):
            yield read_record(index, row, read, f"{shard.name}/{index.key(row)}")


def _row(record: Record) -> dict[str, Any]:
    """The values of all columns; that of labels which the schema does not have is passed over."""
    return {
        "key": record.key,
        "image": record.image and {"bytes": record.image, "path": record.key},
        "captions": list(record.metadata.texts),
        "label": record.labels[0] if record.labels else None,
        "labels": list(record.labels),
        "source": record.metadata.source,
    }


def arrow_schema(manifest: Manifest) -> pa.Schema:
    """The columns, with their features as `datasets` looks for them."""
    text, classes = {"dtype": "string", "_type": "Value"}, {"names": list(manifest.classes), "_type": "ClassLabel"}
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    label = ("label", pa.int64(), classes)
    if manifest.multi_label:
        label = ("labels", pa.list_(pa.int64()), _list_of(classes))
    columns: Sequence[tuple[str, pa.DataType, dict[str, Any]]] = [
        ("key", pa.string(), text),
        ("image", picture, {"_type": "Image"}),
        ("captions", pa.list_(pa.string()), _list_of(text)),
        *([label] if manifest.classes else []),
        ("source", pa.string(), text),
    ]
    features = {name: feature for name, _, feature in columns}
    about = json.dumps({"info": {"features": features}}).encode()
    metadata = {b"huggingface": about, DATASET: manifest.dataset.encode()}
    return pa.schema([(name, kind) for name, kind, _ in columns], metadata)


def _list_of(feature: dict[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}
