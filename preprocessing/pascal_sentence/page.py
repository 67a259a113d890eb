"""The HTML page on which the UIUC published the Pascal sentences.

A table with a row per image: a cell with `<img src="class/id.jpg">`, and a cell with a nested table of sentences, one
in each cell. The page leaves out most end tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote


@dataclass
class Entry:
    """One image of the page: `source` is `class/id.jpg`."""

    source: str
    sentences: list[str] = field(default_factory=list)

    @property
    def class_name(self) -> str:
        return self.source.partition("/")[0]


@dataclass(frozen=True)
class Page:
    """The entries of the page; `generator` is what its meta tag of that name says."""

    entries: tuple[Entry, ...]
    generator: str


def parse_page(html: str) -> Page:
    """Read the page. Images that do not lie in a folder, and images with no table behind them, are decoration."""
    parser = _PageParser()
    parser.feed(html)
    parser.close()
    return Page(tuple(parser.entries), parser.generator)


class _PageParser(HTMLParser):
    """Sentences are the cells of a table that begins behind an image; a cell ends wherever another tag says so."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.entries: list[Entry] = []
        self.generator = ""
        self._image: Entry | None = None  # the image whose table may begin
        self._entry: Entry | None = None  # the image whose table is open
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "meta" and attributes.get("name", "").lower() == "generator":
            self.generator = attributes.get("content", "")
        elif tag == "img":
            self._end_table()
            source = _source_of(attributes.get("src", ""))
            self._image = Entry(source) if source else None
        elif tag == "table" and self._image:
            self._entry, self._image = self._image, None
            self.entries.append(self._entry)
        elif tag in ("td", "th", "tr"):
            self._end_cell()
            if tag != "tr" and self._entry:
                self._cell = []
        elif self._cell is not None:
            self._cell.append(" ")  # <br> and its like part words

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr"):
            self._end_cell()
        elif tag == "table":
            self._end_table()

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def close(self) -> None:
        super().close()
        self._end_table()

    def _end_cell(self) -> None:
        sentence = " ".join("".join(self._cell or ()).split())
        if sentence and self._entry:
            self._entry.sentences.append(sentence)
        self._cell = None

    def _end_table(self) -> None:
        self._end_cell()
        self._entry = None


def _source_of(src: str) -> str:
    """`class/id.jpg` of an image's address, or nothing if it has no folder."""
    parts = [part for part in unquote(src).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts[-2:]) if len(parts) >= 2 else ""
