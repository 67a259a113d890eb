"""The file of an index: what was embedded, with its embeddings and thumbnails, in one SQLite database.

It is written aside and renamed, also when something is added to it: a reader has the old index or the new one, and
who has it open goes on with the old one. Items are numbered from 1, in the order in which they came; a number never
changes.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.files import bring_to_disk

NAME = "index.sqlite"
VERSION = 1
MODALITIES = ("image", "text")
GRAPH_PIECE = 64 * 2**20
"""bytes; SQLite's values end at a gigabyte, and a graph can be larger"""

_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    item INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, split TEXT NOT NULL,
    key TEXT NOT NULL, source TEXT NOT NULL, texts TEXT NOT NULL, labels TEXT NOT NULL, image BLOB, text BLOB
);
CREATE TABLE thumbnails (item INTEGER PRIMARY KEY REFERENCES items, jpeg BLOB NOT NULL);
CREATE TABLE graphs (modality TEXT, piece INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (modality, piece));
"""
_LOOKED_UP = 500
"""values in one query; older SQLites take 999"""


@dataclass(frozen=True)
class Item:
    """One sample of an index."""

    id: str
    """unique within an index: of a dataset's sample its place there, of a picture its content"""
    collection: str
    """the dataset's name, or that of a folder of pictures"""
    split: str
    """of the dataset; empty for a picture"""
    key: str
    source: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    has_thumbnail: bool = False


@dataclass(frozen=True)
class NewItem:
    """An item to be added: its embeddings (modality -> (d,), of those that it has) and its thumbnail as JPEG."""

    item: Item
    embeddings: dict[str, NDArray[np.float32]]
    thumbnail: bytes | None


class Store:
    """An open index file, to be read by any thread; `rewritten` gives one that can be written."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            XmrError: no index there, or one that this version cannot read.
        """
        if not path.is_file():
            raise XmrError(f"{path} does not exist: make an index with `xmr index RUN SHARDS`")
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, check_same_thread=False)
            self.about: dict[str, Any] = {name: json.loads(value) for name, value in self._rows("SELECT * FROM about")}
        except (sqlite3.Error, ValueError) as error:
            raise XmrError(f"{path}: no index that can be read ({error}); make it again with --overwrite") from error
        if self.about.get("version") != VERSION:
            raise XmrError(
                f"{path}: version {self.about.get('version')} of the format; this program reads version {VERSION}. "
                "Make the index again with --overwrite"
            )

    def close(self) -> None:
        self._connection.close()

    def describe(self, **values: Any) -> None:
        """Note something about the index as a whole, as JSON."""
        self.about |= values
        rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        self._write("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are there."""
        found: set[str] = set()
        for start in range(0, len(ids), _LOOKED_UP):
            some = ids[start : start + _LOOKED_UP]
            found |= {row[0] for row in self._rows(f"SELECT id FROM items WHERE id IN ({_marks(some)})", some)}
        return found

    def add(self, new: Iterable[NewItem]) -> None:
        """Append items, whose ids are not there yet."""
        last = self._rows("SELECT coalesce(max(item), 0) FROM items")[0][0]
        for number, entry in enumerate(new, start=last + 1):
            item = entry.item
            vectors = [rows.astype("<f4").tobytes() if rows is not None else None
                       for rows in map(entry.embeddings.get, MODALITIES)]  # fmt: skip
            texts, labels = (json.dumps(words, ensure_ascii=False) for words in (item.texts, item.labels))
            columns = (number, item.id, item.collection, item.split, item.key, item.source, texts, labels, *vectors)
            self._write("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [columns])
            if entry.thumbnail is not None:
                self._write("INSERT INTO thumbnails VALUES (?, ?)", [(number, entry.thumbnail)])

    def collections(self) -> list[tuple[str, str, int]]:
        """Each collection and split, and its number of items, in the order in which they came."""
        return self._rows("SELECT collection, split, count(*) FROM items GROUP BY 1, 2 ORDER BY min(item)")

    def items_with(self, modality: str, *, after: int = 0) -> NDArray[np.int64]:
        """The ascending numbers (n,) above `after` of the items that have an embedding of this modality."""
        _check(modality)
        rows = self._rows(f"SELECT item FROM items WHERE {modality} IS NOT NULL AND item > ? ORDER BY item", [after])
        return np.array(rows, np.int64).reshape(-1)

    def embeddings(self, modality: str, *, after: int = 0) -> NDArray[np.float32]:
        """The embeddings (n, d) of `items_with`, in the same order."""
        _check(modality)
        rows = self._rows(
            f"SELECT {modality} FROM items WHERE {modality} IS NOT NULL AND item > ? ORDER BY item", [after]
        )
        return _matrix([row[0] for row in rows])

    def embeddings_of(self, modality: str, items: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings (n, d) of these items, which have them, in the order in which they are given."""
        _check(modality)
        found = self._by_number(f"SELECT item, {modality} FROM items WHERE item IN", items)
        return _matrix([found[item][0] for item in items])

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """The items of these numbers."""
        found = self._by_number(
            "SELECT item, id, collection, split, key, source, texts, labels, thumbnails.item IS NOT NULL "
            "FROM items LEFT JOIN thumbnails USING (item) WHERE item IN",
            numbers,
        )
        return [_item(*found[number]) for number in numbers]

    def by_name(self) -> dict[str, list[int]]:
        """The items that have a thumbnail by the names of their files, without folders and ending."""
        found: dict[str, list[int]] = {}
        for number, key, source in self._rows("SELECT item, key, source FROM items JOIN thumbnails USING (item)"):
            found.setdefault(PurePosixPath(source or key).stem, []).append(number)
        return found

    def thumbnail(self, number: int) -> bytes | None:
        """An item's picture as JPEG; None for an item that has none, and for a number that no item has."""
        rows = self._rows("SELECT jpeg FROM thumbnails WHERE item = ?", [number])
        return rows[0][0] if rows else None

    def graph(self, modality: str) -> bytes | None:
        """What `set_graph` stored."""
        pieces = self._rows("SELECT bytes FROM graphs WHERE modality = ? ORDER BY piece", [modality])
        return b"".join(piece for (piece,) in pieces) if pieces else None

    def set_graph(self, modality: str, graph: bytes | None) -> None:
        """Keep the approximate index of a modality, or none."""
        self._write("DELETE FROM graphs WHERE modality = ?", [(modality,)])
        pieces = range(0, len(graph or b""), GRAPH_PIECE)
        rows = ((modality, number, (graph or b"")[start : start + GRAPH_PIECE]) for number, start in enumerate(pieces))
        self._write("INSERT INTO graphs VALUES (?, ?, ?)", rows)

    def _by_number(self, query: str, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        found: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(numbers), _LOOKED_UP):
            some = [int(number) for number in numbers[start : start + _LOOKED_UP]]
            found |= {item: tuple(rest) for item, *rest in self._rows(f"{query} ({_marks(some)})", some)}
        return found

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise XmrError(
                    f"{self.path}: no index that can be read ({error}); make it again with --overwrite"
                ) from error

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._lock:
            self._connection.executemany(statement, rows)


@contextmanager
def rewritten(path: Path, *, keep: bool) -> Iterator[Store]:
    """A new index file, or with `keep` a copy of the one that is there, to be written; it comes into its place at the
    end, if nothing was raised.

    Raises:
        XmrError: another process is writing this index, there is none to keep, or the disk does not take it.
    """
    part = path.with_name(path.name + ".part")
    try:
        with FileLock(path.with_name(path.name + ".lock"), timeout=0):
            part.unlink(missing_ok=True)  # of a process that was killed
            try:
                _begin(path, part, keep)
                store = Store(part)
                try:
                    # A copy that is thrown away when something fails needs no journal.
                    store._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
                    yield store
                    store._connection.commit()
                finally:
                    store.close()
                bring_to_disk(part)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
    except Timeout as error:
        raise XmrError(f"{path}: another process is writing this index; wait until it is done") from error
    except sqlite3.Error as error:
        raise XmrError(f"{path} cannot be written: {error}") from error
    except OSError as error:
        if error.filename is not None:  # of another file, maybe
            raise
        raise XmrError(f"{path} cannot be written: {error.strerror or error}") from error


def _begin(path: Path, part: Path, keep: bool) -> None:
    if keep:
        Store(path).close()  # says what is wrong with it
        shutil.copyfile(path, part)
        return
    with closing(sqlite3.connect(part)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO about VALUES ('version', ?)", [str(VERSION)])
        connection.commit()


def _item(
    id: str, collection: str, split: str, key: str, source: str, texts: str, labels: str, has_thumbnail: int
) -> Item:
    return Item(
        id, collection, split, key, source, tuple(json.loads(texts)), tuple(json.loads(labels)), bool(has_thumbnail)
    )  # fmt: skip


def _check(modality: str) -> None:
    assert modality in MODALITIES, modality  # it becomes part of a statement


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _matrix(blobs: Sequence[bytes]) -> NDArray[np.float32]:
    if not blobs:
        return np.empty((0, 0), np.float32)
    return np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1).astype(np.float32)
