"""Thumbnails and previews of an index's items: two tables of its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xmr_e2e.data.preview_files import MEDIA_TYPES
from xmr_e2e.search.database import MOST_VALUES, Database, marks

THUMBNAILS = "CREATE TABLE thumbnails (item INTEGER PRIMARY KEY REFERENCES items, jpeg BLOB NOT NULL);"
PREVIEWS = """
CREATE TABLE previews (
    item INTEGER REFERENCES items, modality TEXT, bytes BLOB NOT NULL, PRIMARY KEY (item, modality)
);"""
"""files of the kinds in MEDIA_TYPES"""
MOST_BYTES = 2**20
"""of a thumbnail or preview"""


class Pictures:
    """The thumbnails and previews of an open index."""

    def __init__(self, database: Database, *, has_previews: bool) -> None:
        """
        Args:
            has_previews: indexes of earlier versions have no such table.
        """
        self._database = database
        self._has_previews = has_previews

    def thumbnail(self, number: int) -> bytes | None:
        """An item's picture as JPEG; None for an item that has none, and for a number that no item has."""
        rows = self._database.rows([bytes], "SELECT jpeg FROM thumbnails WHERE item = ?", [number])
        return self._small(rows[0][0], f"thumbnail of item {number}") if rows else None

    def preview(self, number: int, modality: str) -> bytes | None:
        """The preview of an item's sound, video or shape; None where there is none."""
        if not self._has_previews:
            return None
        query = "SELECT bytes FROM previews WHERE item = ? AND modality = ?"
        rows = self._database.rows([bytes], query, [number, modality])
        return self._small(rows[0][0], f"preview of item {number}") if rows else None

    def previewed(self, numbers: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """The modalities of which there are previews, of those of these items that have any."""
        found: dict[int, tuple[str, ...]] = {}
        for start in range(0, len(numbers) if self._has_previews else 0, MOST_VALUES):
            some = [int(number) for number in numbers[start : start + MOST_VALUES]]
            query = f"SELECT item, modality FROM previews WHERE item IN ({marks(some)}) ORDER BY item, modality"
            for number, modality in self._database.rows([int, str], query, some):
                found[number] = (*found.get(number, ()), self._known(modality, number))
        return found

    def all_thumbnails(self) -> Iterator[tuple[int, bytes]]:
        """Those of the items that are there, ascending, each checked."""
        query = "SELECT item, jpeg FROM items JOIN thumbnails USING (item) ORDER BY item"
        for number, jpeg in self._database.stream([int, bytes], query):
            yield number, self._small(jpeg, f"thumbnail of item {number}")

    def all_previews(self) -> Iterator[tuple[int, str, bytes]]:
        """Those of the items that are there, ascending, each checked."""
        query = "SELECT item, modality, bytes FROM items JOIN previews USING (item) ORDER BY item, modality"
        for number, modality, content in self._database.stream([int, str, bytes], query) if self._has_previews else ():
            yield number, self._known(modality, number), self._small(content, f"preview of item {number}")

    def _known(self, modality: str, number: int) -> str:
        if modality not in MEDIA_TYPES:
            raise self._database.unreadable(f"a preview of item {number} is of nothing that plays")
        return modality

    def _small(self, content: bytes, what: str) -> bytes:
        if len(content) > MOST_BYTES:
            raise self._database.unreadable(f"the {what} has {len(content):,} bytes")
        return content
