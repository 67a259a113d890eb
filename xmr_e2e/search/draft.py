"""Writing the file of an index, all or nothing.

It is written aside and renamed, also when something is added to it: a reader has the old index or the new one, and who
has it open goes on with the old one.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.files import fsync_file
from xmr_e2e.search.database import Database, marks
from xmr_e2e.search.pictures import Pictures
from xmr_e2e.search.store import GRAPH_PIECE, SCHEMA, VERSION, About, Item, Store
from xmr_e2e.shards.schema import MODALITIES

_BESIDE = ("", "-journal", "-wal", "-shm")
"""endings of the files that SQLite reads together"""
_COLUMNS = {"items": 8 + len(MODALITIES), "thumbnails": 2, "previews": 3, "graphs": 3}
"""table -> how many it has"""


@dataclass(frozen=True)
class NewItem:
    """An item to be added."""

    item: Item
    embeddings: Mapping[str, NDArray[np.float32]]
    """modality -> (d,), of those that it has"""
    thumbnail: bytes | None
    """JPEG"""
    previews: Mapping[str, bytes] = field(default_factory=dict)
    """modality -> a file of the kind in `preview_files.MEDIA_TYPES`"""


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
        self.pictures = Pictures(self._database, has_previews=True)
        # A file that is thrown away when something fails needs no journal.
        self._connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {SCHEMA}")
        self.about = About(VERSION, run="", fingerprint="", similarity="cosine")
        self.describe(**asdict(self.about))

    def describe(self, **values: Any) -> None:
        """Note something about the index as a whole."""
        self.about = replace(self.about, **values)
        rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        self._write("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)

    def take_over(self, old: Store) -> None:
        """Add all that another index holds to this one, which holds nothing."""
        self.describe(**asdict(old.about) | {"version": VERSION})
        try:
            self._insert("items", old.item_rows())
        except sqlite3.IntegrityError as error:
            raise old.unreadable("two of its items have the same id") from error
        self._insert("thumbnails", old.pictures.all_thumbnails())
        self._insert("previews", old.pictures.all_previews())
        for modality in MODALITIES:
            self.set_graph(modality, old.graph(modality))

    def add(self, new: Iterable[NewItem]) -> None:
        """Append items, whose ids are not there yet."""
        last = self._rows([int], "SELECT coalesce(max(item), 0) FROM items")[0][0]
        for number, entry in enumerate(new, start=last + 1):
            item = entry.item
            vectors = [rows.astype("<f4").tobytes() if rows is not None else None
                       for rows in map(entry.embeddings.get, MODALITIES)]  # fmt: skip
            texts, labels = (json.dumps(words, ensure_ascii=False) for words in (item.texts, item.labels))
            columns = (number, item.id, item.collection, item.split, item.key, item.source, texts, labels, *vectors)
            self._insert("items", [columns])
            if entry.thumbnail is not None:
                self._insert("thumbnails", [(number, entry.thumbnail)])
            self._insert("previews", [(number, name, content) for name, content in entry.previews.items()])

    def set_graph(self, modality: str, graph: bytes | None) -> None:
        """Keep the approximate index of a modality, or none."""
        self._write("DELETE FROM graphs WHERE modality = ?", [(modality,)])
        pieces = range(0, len(graph or b""), GRAPH_PIECE)
        self._insert("graphs", ((modality, number, (graph or b"")[start : start + GRAPH_PIECE])
                                for number, start in enumerate(pieces)))  # fmt: skip

    def finish(self) -> None:
        """Write all that was added to the disk."""
        self._connection.commit()
        self.close()
        fsync_file(self.path)

    def _insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows to a table, with all of its columns."""
        self._write(f"INSERT INTO {table} VALUES ({marks(range(_COLUMNS[table]))})", rows)

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
                            draft.take_over(old)
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
