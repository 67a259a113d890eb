"""A SQLite file that another may have made: it is only read, nothing beside it is looked at, and no query runs without
end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.received import inside

Kinds = Sequence[Any]
"""the type of each column of a query, or several, as `isinstance` takes them: SQLite keeps any value in any column"""
SchemaEntry = tuple[str, str, str, str]
"""type, name and table of what a database holds, and the statement that made it"""

MOST_VALUES = 500
"""in one query; older SQLites take 999"""
_STEPS = 10_000
"""of SQLite's virtual machine, after which the program is asked whether to go on"""
_STEPS_PER_BYTE, _MORE_STEPS = 4, 1_000_000
"""A sound file has room for few rows, each of which takes tens of bytes and tens of steps. In another one, pages may
stand for many."""
_FAULTS = (sqlite3.Error, UnicodeDecodeError, MemoryError)
"""of SQLite; of its messages, which may repeat a name that is no text; and of what it asks for where a size is wrong"""
_OWN_BYTES = 2**62
"""bound of what a file gives that this process has made: none"""


class Database:
    """An open file; any thread may read it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, most: int = _OWN_BYTES) -> None:
        self.path = path
        self.connection = connection
        self._most = most
        self._steps = 0
        self._lock = threading.Lock()

    @classmethod
    def received(cls, path: Path, *, most_in_a_row: int) -> Database:
        """Open a file for reading.

        most_in_a_row: bytes.

        Raises:
            XmrError: no regular file, a link out of its folder, or no database.
        """
        path = inside(path.parent, path.name)
        # Immutable: else, SQLite would play a journal back that lies beside the file, and delete what that one names.
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        try:
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except _FAULTS as error:
            raise _unreadable(path, str(error)) from error
        most = max(path.stat().st_size, 4096)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(most, most_in_a_row))
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        database = cls(path, connection, most)
        connection.set_progress_handler(database._is_too_long, _STEPS)
        try:
            for setting in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
                connection.execute(f"PRAGMA {setting}")
        except _FAULTS as error:
            connection.close()
            raise database.unreadable(str(error)) from error
        return database

    def close(self) -> None:
        self.connection.close()

    def rows(self, kinds: Kinds, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows that a query gives.

        Raises:
            XmrError: they hold other types, are more than the file has room for, or cannot be read.
        """
        return list(self.stream(kinds, query, values))

    def stream(self, kinds: Kinds, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """`rows`, one at a time; no other thread reads meanwhile."""
        kinds = tuple(kinds)
        sized = [number for number, kind in enumerate(kinds) if kind is not int]
        room = self._most
        with self._lock:
            self._steps = 0
            try:
                for row in self.connection.execute(query, values):
                    if not all(map(isinstance, row, kinds)):
                        raise self.unreadable(
                            f"it holds values of other types: {[type(value).__name__ for value in row]}"
                        )
                    for number in sized:
                        room -= len(row[number] or "")
                    if room < 0:
                        raise self.unreadable("it holds more than the file has room for")
                    yield row
            except _FAULTS as error:
                raise self.unreadable(str(error) or "out of memory") from error

    def schema(self) -> list[SchemaEntry]:
        """All tables and indexes of the database, sorted."""
        rows = self.rows((str,) * 4, "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
        return sorted((kind, name, table, " ".join(sql.split())) for kind, name, table, sql in rows)

    def unreadable(self, reason: str) -> XmrError:
        """The error for a file that is not as it should be."""
        return _unreadable(self.path, reason)

    def _is_too_long(self) -> bool:
        self._steps += _STEPS
        return self._steps > _STEPS_PER_BYTE * self._most + _MORE_STEPS


def _unreadable(path: Path, reason: str) -> XmrError:
    reason = one_line(reason if len(reason) <= 200 else f"{reason[:200]}…")  # SQLite's may repeat a value
    return XmrError(f"{path}: no index that can be read ({reason}); make it again with --overwrite")


def schema_of(statements: str) -> list[SchemaEntry]:
    """`Database.schema` of a database in which these statements were executed."""
    database = Database(Path(), sqlite3.connect(":memory:"))
    try:
        database.connection.executescript(statements)
        return database.schema()
    finally:
        database.close()


def marks(values: Sequence[Any]) -> str:
    """The place of each of some values in a statement."""
    return ",".join("?" * len(values))
