"""The file of an index: what was embedded, with its embeddings, thumbnails and previews, in one SQLite database.

Items are numbered from 1, in the order in which they came; a number never changes. How the file is written:
`search.draft`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from xmr_e2e.errors import XmrError
from xmr_e2e.received import parse, parse_json, shortened
from xmr_e2e.search.database import MOST_VALUES, Database, Kinds, marks, schema_of
from xmr_e2e.search.pictures import PREVIEWS, THUMBNAILS, Pictures
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.similarity import Similarity

NAME = "index.sqlite"
VERSION = 4
READABLE = (1, 2, 3, 4)
"""versions; the first three have no previews, the first two embeddings of pictures and texts alone, and the first one
keeps graphs as files of faiss, which are not read"""
FIRST_WITH_GRAPHS = 2
GRAPH_PIECE = 64 * 2**20
"""bytes; SQLite's values end at a gigabyte, and a graph can be larger"""
TEXTS_BYTES = 2**22
"""of an item, at most"""
LARGEST_EMBEDDING = 1e18
"""length of one, at most, so that its distance to another one is a number in fp32"""

_FORMER_EMBEDDINGS = "image BLOB, text BLOB"
_EMBEDDINGS = ", ".join(f"{name} BLOB" for name in MODALITIES)
SCHEMA = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    item INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, split TEXT NOT NULL,
    key TEXT NOT NULL, source TEXT NOT NULL, texts TEXT NOT NULL, labels TEXT NOT NULL, {_EMBEDDINGS}
);
{THUMBNAILS}{PREVIEWS}
CREATE TABLE graphs (modality TEXT, piece INTEGER, bytes BLOB NOT NULL, PRIMARY KEY (modality, piece));
"""
_COLUMNS, _ITEM = "id, collection, split, key, source, texts, labels", (str,) * 7
"""of `Item`, and their types"""
_LAST_ITEM = 2**53
"""number of an item, at most: browsers count as far"""


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
    previews: tuple[str, ...] = ()
    """the modalities of which it has one"""


class Store:
    """An open index file, to be read by any thread. It may be another's: what it holds is checked when it is read."""

    pictures: Pictures
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
        for start in range(0, len(ids), MOST_VALUES):
            some = ids[start : start + MOST_VALUES]
            found |= {id for (id,) in self._rows([str], f"SELECT id FROM items WHERE id IN ({marks(some)})", some)}
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
        previews = self.pictures.previewed(numbers)
        return [
            replace(self._item(number, *columns), previews=previews.get(number, ()))
            for number, columns in zip(numbers, found)
        ]

    def by_name(self) -> dict[str, list[int]]:
        """The items that have a thumbnail by the names of their files, without folders and ending."""
        found: dict[str, list[int]] = {}
        query = "SELECT item, key, source FROM items JOIN thumbnails USING (item)"
        for number, key, source in self._rows([int, str, str], query):
            found.setdefault(PurePosixPath(source or key).stem, []).append(number)
        return found

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

    def item_rows(self) -> Iterator[tuple[Any, ...]]:
        """All columns of all items, embeddings of MODALITIES last, each value checked."""
        embeddings = ", ".join(name if name in self._modalities else "NULL" for name in MODALITIES)
        rows = self._database.stream(
            [int, *_ITEM, *[(bytes, type(None))] * len(MODALITIES)],
            f"SELECT item, {_COLUMNS}, {embeddings} FROM items ORDER BY item",
        )
        return (self._checked(*row) for row in rows)

    def unreadable(self, reason: str) -> XmrError:
        """The error for a file that is not as it should be."""
        return self._database.unreadable(reason)

    def _read_about(self) -> About:
        schema = self._database.schema()
        if not [entry for entry in schema_of(SCHEMA) if entry[1] == "about" and entry in schema]:
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
        silent = SCHEMA.replace(PREVIEWS, "")
        former = silent.replace(_EMBEDDINGS, _FORMER_EMBEDDINGS)
        if schema not in map(schema_of, (SCHEMA, silent, former)):
            raise self._database.unreadable("its tables are not those of an index")
        self._modalities = MODALITIES[:2] if schema == schema_of(former) else MODALITIES
        self.pictures = Pictures(self._database, has_previews=schema == schema_of(SCHEMA))
        return parse(About, json.dumps(about), where)

    def _by_number(self, kinds: Kinds, query: str, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
        """The columns after the first one, which is the item's number, of these items."""
        found: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(numbers), MOST_VALUES):
            some = [int(number) for number in numbers[start : start + MOST_VALUES]]
            found |= {item: tuple(rest) for item, *rest in self._rows([int, *kinds], f"{query} ({marks(some)})", some)}
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

    def _matrix(self, blobs: Sequence[bytes]) -> NDArray[np.float32]:
        if not blobs:
            return np.empty((0, 0), np.float32)
        if len(set(map(len, blobs))) > 1 or len(blobs[0]) % 4 or not blobs[0]:
            raise self._database.unreadable("its embeddings are not all of one width")
        rows = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1).astype(np.float32)
        if not (np.einsum("nd,nd->n", rows, rows) <= LARGEST_EMBEDDING**2).all():
            raise self._database.unreadable("an embedding is not finite, or too large")
        return rows


def _check(modality: str) -> None:
    assert modality in MODALITIES, modality  # it becomes part of a statement
