"""The files in which INRIA published its Web Queries: what was searched for, and what was found."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from preprocessing.common.layout import Layout
from preprocessing.common.published_text import read_any_encoding, read_fields
from preprocessing.common.tables import numbered_lines
from xmr_e2e.errors import XmrError

LABELS = "labels.txt"
QUERIES = "queries_en_trans.txt"
TEXT_FIELDS = ("before", "after", "ptitle", "alt")
LAYOUT = Layout(
    "INRIA Web Queries",
    (
        f"{LABELS}     (a line each: query id, document id, 1 for relevant or 0)",
        f"{QUERIES}     (a line each: query id, the query in English)",
        "images/query_<q>_document_<d>_imagethumb.jpg",
        "metadata/query_<q>_document_<d>_textmeta.xml     (the words around the image on its web page)",
    ),
    'Publisher: INRIA, the page "Web Queries" at lear.inrialpes.fr/~krapac/webqueries/webqueries.html',
)
LABEL_LINE = re.compile(r"(?P<query>\d{1,9})\s+(?P<document>\d{1,9})\s+(?P<relevant>[01])")
QUERY_LINE = re.compile(r'(?P<query>\d{1,9})\s+"?\s*(?P<name>[^\s"].*?)\s*"?')


@dataclass(frozen=True, order=True)
class Document:
    """One image that a query found, with the web page around it."""

    query: int
    number: int

    @property
    def source(self) -> str:
        return f"query_{self.query}_document_{self.number}"


def read_queries(path: Path) -> dict[int, str]:
    """Query id -> the query in English.

    Raises:
        XmrError: a line of another form, or an id twice; names file and line.
    """
    queries: dict[int, str] = {}
    for number, line in numbered_lines(path, read=read_any_encoding):
        match = _match(QUERY_LINE, line, f"{path}, line {number}", "a query id and the query")
        query = int(match["query"])
        if query in queries:
            raise XmrError(f"{path}, line {number}: query {query} is already {queries[query]!r}")
        queries[query] = match["name"]
    return queries


def read_documents(path: Path, queries: Container[int]) -> dict[Document, bool]:
    """Document -> whether it is relevant to its query.

    Raises:
        XmrError: a line of another form, a query that does not exist, or a document twice; names file and line.
    """
    documents: dict[Document, bool] = {}
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        match = _match(LABEL_LINE, line, where, "a query id, a document id and 0 or 1")
        document = Document(int(match["query"]), int(match["document"]))
        if document.query not in queries:
            raise XmrError(f"{where}: query {document.query} is not in {QUERIES}")
        if document in documents:
            raise XmrError(f"{where}: document {document.number} of query {document.query} is on an earlier line, too")
        documents[document] = match["relevant"] == "1"
    return documents


def _match(pattern: re.Pattern[str], line: str, where: str, wanted: str) -> re.Match[str]:
    match = pattern.fullmatch(line)
    if match is None:
        raise XmrError(f"{where}: wanted are {wanted}, not {line!r}")
    return match


def read_words(path: Path) -> str:
    """The words of a web page about an image: those before and behind it, the page's title, and the image's own
    alternative text, a line each.

    Raises:
        XmrError: the file cannot be read, is cut off, or holds no words.
    """
    fields = read_fields(path, TEXT_FIELDS)
    text = "\n".join(filter(None, (" ".join(filter(None, fields[name])) for name in TEXT_FIELDS)))
    if not text:
        raise XmrError(f"{path} has no words in {', '.join(TEXT_FIELDS)}")
    return text
