"""Datasets of the Hugging Face hub, or in its layout in a folder, as a table in parts; read as a stream, no program of
theirs is run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from preprocessing.arrow.rows import Part, Row
from preprocessing.arrow.schema import Schema, read_schema
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line, shortened
from xmr_e2e.shards.media import IMAGE_BYTES
from xmr_e2e.shards.raw import RawTree

SAVED = ("dataset_dict.json", "state.json")
"""files by which a folder is known that `save_to_disk` has written"""


class Published:
    """A dataset of the hub, at one commit."""

    def __init__(self, name: str, subset: str | None, revision: str | None) -> None:
        self.where = name
        with _loading(name):
            from huggingface_hub import HfApi

            self.commit = HfApi().dataset_info(name, revision=revision).sha
        self.parts_by_name = _load(name, subset, self.commit)

    @property
    def origin(self) -> str:
        return f"{self.where} of the Hugging Face hub, commit {self.commit}"

    def find(self, path: str, where: str) -> bytes:
        """A picture's bytes, from the dataset's own files on the hub and nowhere else.

        Raises:
            XmrError: the path leads elsewhere, or cannot be read.
        """
        home = f"hf://datasets/{self.where}@{self.commit}/"
        url = path if "://" in path else home + path
        is_outside = not url.rpartition("::")[2].startswith(home) or ".." in url.split("/")
        if is_outside or path.startswith("/"):
            raise XmrError(f"{where}: {shortened(path)} lies outside of {self.where}")
        return _fetch(url, where)


class OnDisk:
    """A dataset in a folder: `save_to_disk`'s, or files that `load_dataset` knows, as of imagefolder or Parquet."""

    def __init__(self, folder: Path, subset: str | None, within: RawTree | None) -> None:
        self.where = str(folder)
        self.folder = folder
        self.within = within
        saved = any((folder / name).exists() for name in SAVED)
        self.parts_by_name = _load_saved(folder) if saved else _load(str(folder.resolve()), subset, None)

    @property
    def origin(self) -> str:
        return f"the folder {self.folder.resolve().name}, by datasets"

    def find(self, path: str, where: str) -> Path | bytes:
        """The file of a picture within the folder, or its bytes where it lies in an archive there.

        Raises:
            XmrError: it lies elsewhere, or cannot be read.
        """
        outer = path.rpartition("::")[2].removeprefix("file://")
        file = self.folder / outer
        if "\0" in path or "://" in outer or (self.within and not self.within.holds(file)):
            raise (self.within or RawTree(self.folder)).error(f"{where}: {shortened(path, quoted=False)}")
        return _fetch(path, where) if "::" in path else file


def parts_of(dataset: Published | OnDisk) -> list[Part]:
    """The dataset's splits, whose pictures stay as they are stored."""
    return [
        Part(str(name), f"{dataset.where} ({name})", partial(_rows, split, dataset.where), _count(split))
        for name, split in dataset.parts_by_name.items()
    ]


def common_schema(dataset: Published | OnDisk) -> Schema:
    """The columns of all splits.

    Raises:
        XmrError: there are none, or a split has other columns than the first.
    """
    schemas = {}
    for name, split in dataset.parts_by_name.items():
        with _loading(dataset.where):
            schemas[name] = read_schema(split.features.arrow_schema, f"{dataset.where} ({name})")
    first, schema = next(iter(schemas.items()))
    for name, other in schemas.items():
        if other != schema:
            raise XmrError(f"{dataset.where}: the columns of the split {name} are not those of {first}")
    return schema


def _load(name: str, subset: str | None, revision: str | None) -> Mapping[Any, Any]:
    with _loading(name):
        import datasets

        datasets.disable_progress_bars()
        loaded = datasets.load_dataset(name, subset, revision=revision, streaming=True)
        # Of some datasets, the columns are known by their first rows alone.
        return {key: split if split.features else split._resolve_features() for key, split in loaded.items()}


def _load_saved(folder: Path) -> Mapping[Any, Any]:
    """The splits that `save_to_disk` has written. Arrow trusts its files, so that all they hold is checked first."""
    with _loading(str(folder)):
        import datasets

        loaded = datasets.load_from_disk(os.fspath(folder))
        splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {loaded.split or "train": loaded}
        for split in splits.values():
            split.data.validate(full=True)
        return splits


def _rows(split: Any, where: str, columns: Sequence[str]) -> Iterator[Row]:
    with _loading(where):
        import datasets

        if isinstance(split, datasets.IterableDataset):
            rows = split.decode(False)  # before all else: what lies upon a decoder is decoded
        else:
            rows = split.with_format(None)
            for name in (name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)):
                rows = rows.cast_column(name, datasets.Image(decode=False))
        rows = rows.select_columns(list(columns))
        iterator = iter(rows)
    while True:
        with _loading(where):
            row = next(iterator, None)
        if row is None:
            return
        yield row


def _count(split: Any) -> int | None:
    if hasattr(split, "num_rows"):
        return int(split.num_rows)
    known = (split.info.splits or {}).get(str(split.split))
    return int(known.num_examples) or None if known else None


def _fetch(url: str, where: str) -> bytes:
    import fsspec

    with _loading(f"{where}: {shortened(url, quoted=False)}"), fsspec.open(url, "rb") as stream:
        content: bytes = stream.read(IMAGE_BYTES + 1)
    if len(content) > IMAGE_BYTES:
        raise XmrError(f"{where}: {shortened(url)} has more than {IMAGE_BYTES:,} bytes")
    return content


@contextmanager
def _loading(where: str) -> Iterator[None]:
    """Raise the errors of `datasets`, of the hub and of its files, which are of many kinds, as XmrError."""
    try:
        yield
    except XmrError:
        raise
    except Exception as error:
        raise XmrError(f"{where}: cannot be loaded as a dataset: {first_line(error)}") from error
