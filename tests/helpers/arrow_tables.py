"""Parquet files and saved datasets of drawn pictures, and the commands that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.built import image_bytes
from xmr_e2e.cli import main

CAPTIONS = datasets.Features(
    {
        "photo": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "animal": datasets.ClassLabel(names=["dog", "cat", "bird"]),
        "width": datasets.Value("int32"),
    }
)


def jpeg(number: int) -> bytes:
    return image_bytes((number * 3 % 256, 40, 90))


def rows(count: int = 6, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "photo": {"bytes": jpeg(start + number), "path": f"{number}.jpg"},
            "captions": [f"picture {start + number}", f"the same {start + number}"],
            "animal": number % 2,
            "width": 12,
        }
        for number in range(count)
    ]


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def pictures(count: int) -> list[bytes]:
    return [jpeg(number) for number in range(count)]


def from_parquet(given: object, out: Path, *options: str) -> int:
    return main(["shards", "from-parquet", str(given), str(out), "--workers", "1", *options])


def from_hf(given: object, out: Path, *options: str) -> int:
    return main(["shards", "from-hf", str(given), str(out), "--workers", "1", *options])


def refused(capsys: pytest.CaptureFixture[str], out: Path) -> str:
    """The error, in one line; nothing is left of what it ended."""
    assert not out.exists()
    return " ".join(capsys.readouterr().err.split())


def saved(folder: Path, **counts: int) -> Path:
    """A dataset as `save_to_disk` leaves it."""
    splits = {
        name: datasets.Dataset.from_list(rows(count, start=100 * place), features=CAPTIONS)
        for place, (name, count) in enumerate(counts.items())
    }
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder
