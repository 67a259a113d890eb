"""The file of an index: what was embedded, with its embeddings and thumbnails, in one SQLite database.

It is written aside and renamed, also when something is added to it: a reader has the old index or the new one, and
who has it open goes on with the old one. Items are numbered from 1, in the order in which they came; a number never
changes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import Field

from xmr_e2e.errors import XmrError
from xmr_e2e.files import fsync_file
from xmr_e2e.received import parse, parse_json, shortened
from xmr_e2e.search.database import Database, Kinds, schema_of
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.similarity import Similarity

NAME = "index.sqlite"
VERSION = 3
READABLE = (1, 2, 3)
"""versions; the first two have embeddings of pictures and texts alone, and the first one keeps graphs as files of
faiss, which are not read"""
FIRST_WITH_GRAPHS = 2
GRAPH_PIECE = 64 * 2**20
"""bytes; SQLite's values end at a gigabyte, and a graph can be larger"""
THUMBNAIL_BYTES, TEXTS_BYTES = 2**20, 2**22
"""of an item, at most"""
LARGEST_EMBEDDING = 1e18
"""length of one, at most, so that its distance to another one is a number in fp32"""

_FORMER_EMBEDDINGS = "image BLOB, text BLOB"
_EMBEDDINGS = ", ".join(f"{name} BLOB" for name in MODALITIES)
_SCHEMA = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    item INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, split TEXT NOT NULL,
    key TEXT NOT NULL, source TEXT NOT NULL, texts TEXT NOT NULL, labels TEXT NOT NULL, {_EMBEDDINGS}
);
CREATE TABLE thumbnails (item INTEGER PRIMARY KEY REFERENCES items, jpeg BLOB NOT NULL);
CREATE TABLE graphs (modality TEXT, piece INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (modality, piece));
"""
_COLUMNS, _ITEM = "id, collection, split, key, source, texts, labels", (str,) * 7
"""of `Item`, and their types"""
_LAST_ITEM = 2**53
"""number of an item, at most: browsers count as far"""
_LOOKED_UP = 500
"""values in one query; older SQLites take 999"""
_BESIDE = ("", "-journal", "-wal", "-shm")
"""endings of the files that SQLite reads together"""


@dataclass(frozen=True)
class About:
    """An index as a whole."""

    version: int
    run: Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
    """the folder of the model, when the index was made; of an index that was received, on another machine"""
    fingerprint: Annotated[str, Field(max_length=200)]
    """of the model"""
    similarity: Similarity


@dataclass(frozen=True)
class Item:
    """One sample of an index."""

    id: str
    """unique within an index: of a dataset's sample its place there, of a file its content"""
    collection: str
    """the dataset's name, or that of a folder of files"""
    split: str
    """of the dataset; empty for a file"""
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
    """An open index file, to be read by any thread. It may be another's: what it holds is checked when it is read."""

    _modalities: tuple[str, ...]
    """for whose embeddings it has room"""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            XmrError: no index there, or one that this version cannot read.
        """
        if not path.exists():
            raise XmrError(f"{path} does not exist: make an index with `xmr index RUN SHARDS`")
        self.path = path
        self._database = Database.received(path, most_in_a_row=GRAPH_PIECE + 4096)
        try:
            self.about = self._read_about()
        except XmrError:
            self.close()
            raise

    def close(self) -> None:
        self._database.close()

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are there."""
        found: set[str] = set()
        for start in range(0, len(ids), _LOOKED_UP):
            some = ids[start : start + _LOOKED_UP]
            found |= {id for (id,) in self._rows([str], f"SELECT id FROM items WHERE id IN ({_marks(some)})", some)}
        return found

    def collections(self) -> list[tuple[str, str, int]]:
        """Each collection and split, and its number of items, in the order in which they came."""
        query = "SELECT collection, split, count(*) FROM items GROUP BY 1, 2 ORDER BY min(item)"
        return self._rows([str, str, int], query)

    def embeddings(self, modality: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ascending numbers (n,) of the items that have an embedding of this modality, and the embeddings (n, d).

        Raises:
            XmrError: they are of several widths, not finite, or larger than LARGEST_EMBEDDING.
        """
        _check(modality)
        if modality not in self._modalities:
            return np.empty(0, np.int64), self._matrix([])
        query = f"SELECT item, {modality} FROM items WHERE {modality} IS NOT NULL ORDER BY item"
        rows = self._rows([int, bytes], query)
        numbers = np.array([number for number, _ in rows], np.int64)
        if len(numbers) and not (numbers[0] > 0 and (np.diff(numbers) > 0).all()):
            raise self._database.unreadable("its items are not in order")
        return numbers, self._matrix([blob for _, blob in rows])

    def embeddings_of(self, modality: str, items: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings (n, d) of these items, which have them, in the order in which they are given.

        Raises:
            XmrError: as `embeddings`.
        """
        _check(modality)
        found = self._by_number([bytes], f"SELECT item, {modality} FROM items WHERE item IN", items)
        return self._matrix([blob for (blob,) in found])

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """The items of these numbers."""
        found = self._by_number(
            [*_ITEM, int],
            f"SELECT item, {_COLUMNS}, thumbnails.item IS NOT NULL FROM items LEFT JOIN thumbnails USING (item) "
            "WHERE item IN",
            numbers,
        )
        return [self._item(number, *columns) for number, columns in zip(numbers, found)]

    def by_name(self) -> dict[str, list[int]]:
        """The items that have a thumbnail by the names of their files, without folders and ending."""
        found: dict[str, list[int]] = {}
        query = "SELECT item, key, source FROM items JOIN thumbnails USING (item)"
        for number, key, source in self._rows([int, str, str], query):
            found.setdefault(PurePosixPath(source or key).stem, []).append(number)
        return found

    def thumbnail(self, number: int) -> bytes | None:
        """An item's picture as JPEG; None for an item that has none, and for a number that no item has."""
        rows = self._rows([bytes], "SELECT jpeg FROM thumbnails WHERE item = ?", [number])
        return self._small(number, rows[0][0]) if rows else None

    def graph(self, modality: str) -> bytes | None:
        """The graph that `set_graph` stored; None for an index of a version whose graphs this program does not take."""
        if self.about.version < FIRST_WITH_GRAPHS:
            return None
        pieces = self._rows([bytes], "SELECT bytes FROM graphs WHERE modality = ? ORDER BY piece", [modality])
        return b"".join(piece for (piece,) in pieces) if pieces else None

    @property
    def has_older_graph(self) -> bool:
        """True where there are graphs that are not read."""
        return self.about.version < FIRST_WITH_GRAPHS and bool(self._rows([int], "SELECT 1 FROM graphs LIMIT 1"))

    def copy_to(self, draft: Draft) -> None:
        """Add all that is there to an index that holds nothing, each value checked."""
        draft.describe(**asdict(self.about) | {"version": VERSION})
        embeddings = ", ".join(name if name in self._modalities else "NULL" for name in MODALITIES)
        rows = self._database.stream(
            [int, *_ITEM, *[(bytes, type(None))] * len(MODALITIES)],
            f"SELECT item, {_COLUMNS}, {embeddings} FROM items ORDER BY item",
        )
        try:
            draft.insert("items", (self._checked(*row) for row in rows))
        except sqlite3.IntegrityError as error:
            raise self._database.unreadable("two of its items have the same id") from error
        thumbnails = self._database.stream(
            [int, bytes], "SELECT item, jpeg FROM items JOIN thumbnails USING (item) ORDER BY item"
        )
        draft.insert("thumbnails", ((number, self._small(number, jpeg)) for number, jpeg in thumbnails))
        for modality in MODALITIES:
            draft.set_graph(modality, self.graph(modality))

    def _read_about(self) -> About:
        schema, expected = self._database.schema(), schema_of(_SCHEMA)
        former = schema_of(_SCHEMA.replace(_EMBEDDINGS, _FORMER_EMBEDDINGS))
        if not [entry for entry in expected if entry[1] == "about" and entry in schema]:
            raise self._database.unreadable("it has no table `about`")
        where = f"{self.path}: about"
        texts = dict(self._rows([str, str], "SELECT name, value FROM about"))
        about = {name: parse_json(text, f"{where}: {shortened(name)}") for name, text in texts.items()}
        version = about.get("version")
        if version not in READABLE:
            raise XmrError(
                f"{self.path}: version {shortened(version)} of the format; this program reads versions "
                f"{', '.join(map(str, READABLE))}. Make the index again with --overwrite"
            )
        if schema not in (expected, former):
            raise self._database.unreadable("its tables are not those of an index")
        self._modalities = MODALITIES if schema == expected else MODALITIES[:2]
        return parse(About, json.dumps(about), where)

    def _by_number(self, kinds: Kinds, query: str, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
        """The columns after the first one, which is the item's number, of these items."""
        found: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(numbers), _LOOKED_UP):
            some = [int(number) for number in numbers[start : start + _LOOKED_UP]]
            found |= {item: tuple(rest) for item, *rest in self._rows([int, *kinds], f"{query} ({_marks(some)})", some)}
        if missing := [number for number in numbers if number not in found]:
            raise self._database.unreadable(f"it has no item {missing[0]}")
        return [found[number] for number in numbers]

    def _rows(self, kinds: Kinds, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._database.rows(kinds, query, values)

    def _checked(self, number: int, *columns: Any) -> tuple[Any, ...]:
        """The row of an item as it is, if that is sound."""
        self._item(number, *columns[: len(_ITEM)])
        if not 0 < number <= _LAST_ITEM:
            raise self._database.unreadable(f"an item has the number {number}")
        return (number, *columns)

    def _item(
        self, number: int, id: str, collection: str, split: str, key: str, source: str, texts: str, labels: str,
        has_thumbnail: int = False,
    ) -> Item:  # fmt: skip
        where = f"{self.path}: item {number}"
        return Item(
            id, collection, split, key, source,
            parse(tuple[str, ...], texts, f"{where}: texts", most=TEXTS_BYTES),
            parse(tuple[str, ...], labels, f"{where}: labels", most=TEXTS_BYTES),
            bool(has_thumbnail),
        )  # fmt: skip

    def _small(self, number: int, jpeg: bytes) -> bytes:
        if len(jpeg) > THUMBNAIL_BYTES:
            raise self._database.unreadable(f"the thumbnail of item {number} has {len(jpeg):,} bytes")
        return jpeg

    def _matrix(self, blobs: Sequence[bytes]) -> NDArray[np.float32]:
        if not blobs:
            return np.empty((0, 0), np.float32)
        if len(set(map(len, blobs))) > 1 or len(blobs[0]) % 4 or not blobs[0]:
            raise self._database.unreadable("its embeddings are not all of one width")
        rows = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1).astype(np.float32)
        if not (np.einsum("nd,nd->n", rows, rows) <= LARGEST_EMBEDDING**2).all():
            raise self._database.unreadable("an embedding is not finite, or too large")
        return rows


class Draft(Store):
    """An index file that this process makes, which nobody else has written to."""

    def __init__(self, path: Path) -> None:
        for ending in _BESIDE:  # of a process that was killed, or received
            Path(f"{path}{ending}").unlink(missing_ok=True)
        path.touch(exist_ok=False)
        self.path = path
        self._database = Database(path, sqlite3.connect(path, check_same_thread=False))
        self._connection = self._database.connection
        self._modalities = MODALITIES
        # A file that is thrown away when something fails needs no journal.
        self._connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA}")
        self.about = About(VERSION, run="", fingerprint="", similarity="cosine")
        self.describe(**asdict(self.about))

    def describe(self, **values: Any) -> None:
        """Note something about the index as a whole."""
        self.about = replace(self.about, **values)
        rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        self._write("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)

    def add(self, new: Iterable[NewItem]) -> None:
        """Append items, whose ids are not there yet."""
        last = self._rows([int], "SELECT coalesce(max(item), 0) FROM items")[0][0]
        for number, entry in enumerate(new, start=last + 1):
            item = entry.item
            vectors = [rows.astype("<f4").tobytes() if rows is not None else None
                       for rows in map(entry.embeddings.get, MODALITIES)]  # fmt: skip
            texts, labels = (json.dumps(words, ensure_ascii=False) for words in (item.texts, item.labels))
            columns = (number, item.id, item.collection, item.split, item.key, item.source, texts, labels, *vectors)
            self.insert("items", [columns])
            if entry.thumbnail is not None:
                self.insert("thumbnails", [(number, entry.thumbnail)])

    def insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows to a table, with all of its columns."""
        marks = {"items": 8 + len(MODALITIES), "thumbnails": 2, "graphs": 3}[table]
        self._write(f"INSERT INTO {table} VALUES ({_marks(range(marks))})", rows)

    def set_graph(self, modality: str, graph: bytes | None) -> None:
        """Keep the approximate index of a modality, or none."""
        self._write("DELETE FROM graphs WHERE modality = ?", [(modality,)])
        pieces = range(0, len(graph or b""), GRAPH_PIECE)
        self.insert("graphs", ((modality, number, (graph or b"")[start : start + GRAPH_PIECE])
                               for number, start in enumerate(pieces)))  # fmt: skip

    def finish(self) -> None:
        """Write all that was added to the disk."""
        self._connection.commit()
        self.close()
        fsync_file(self.path)

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(statement, rows)


@contextmanager
def rewritten(path: Path, *, keep: bool) -> Iterator[Draft]:
    """A new index file, or with `keep` one that holds what the one that is there does, to be written; it comes into its
    place at the end, if nothing was raised.

    Raises:
        XmrError: another process is writing this index, there is none to keep, or the disk does not take it.
    """
    part = path.with_name(path.name + ".part")
    try:
        with _lock(path):
            try:
                with closing(Draft(part)) as draft:
                    if keep:
                        with closing(Store(path)) as old:
                            old.copy_to(draft)
                    yield draft
                    draft.finish()
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


def _lock(path: Path) -> FileLock:
    lock = path.with_name(path.name + ".lock")
    if os.path.lexists(lock):
        status = lock.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # locking empties the file that it stands for
            raise XmrError(f"{lock} is a link, or no regular file; remove it")
    return FileLock(lock, timeout=0)


def _check(modality: str) -> None:
    assert modality in MODALITIES, modality  # it becomes part of a statement


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
