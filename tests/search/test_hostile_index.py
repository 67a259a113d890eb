"""Indexes that a stranger made: opening, searching and adding to one ends in an answer or in an error, and changes
nothing else."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fuzzing import damaged, fuzzed, hostile
from xmr_e2e.errors import XmrError
from xmr_e2e.search import draft as draft_module
from xmr_e2e.search.database import Database
from xmr_e2e.search.draft import Draft, NewItem, rewritten
from xmr_e2e.search.graph import graph_bytes
from xmr_e2e.search.index import Index
from xmr_e2e.search.store import NAME, VERSION, Item
from xmr_e2e.search.vectors import Neighbors
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.similarity import Similarity

WIDTH = 4
ITEMS = 200
SIMILARITIES = get_args(Similarity)
QUERIES = np.random.default_rng(9).normal(size=(10, WIDTH)).astype(np.float32)


def embeddings(count: int = ITEMS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def entries(rows: np.ndarray, name: str = "item") -> list[NewItem]:
    return [
        NewItem(
            Item(f"{name}/{number}", "some", "test", f"{number}", f"{number}.jpg", ("a text", "another"), ("dog",)),
            {"image": row, "text": -row},
            b"\xff\xd8\xff a jpeg" + bytes(9000) * (number == 3),
            {"audio": b"\xff\xfb an mp3"} if number % 10 == 0 else {},
        )
        for number, row in enumerate(rows)
    ]


def write_graphs(draft: Draft, similarity: Similarity = "cosine") -> None:
    """As `make_index` does."""
    for modality in MODALITIES:
        _, rows = draft.embeddings(modality)
        if len(rows):
            neighbors = Neighbors.of(rows, similarity, graph=draft.graph(modality), flat_up_to=50)
            draft.set_graph(modality, neighbors.graph())


def make(folder: Path) -> Path:
    """An index with graphs; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    with rewritten(folder / NAME, keep=False) as draft:
        draft.describe(run="/runs/one", fingerprint="1234", similarity="cosine")
        draft.add(entries(embeddings()))
        write_graphs(draft)
    return folder / NAME


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make(tmp_path_factory.mktemp("sound")).read_bytes()


@pytest.fixture
def path(tmp_path: Path, sound: bytes) -> Path:
    """The file of an index of one's own, in a folder of its own."""
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / NAME).write_bytes(sound)
    return tmp_path / "index" / NAME


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "victim").write_text("precious")
    return tmp_path / "victim"


def change(path: Path, *statements: str, values: Sequence[Any] = ()) -> None:
    """Alter an index by SQL."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"):
            connection.execute(statement)
        for statement in statements:
            connection.execute(statement, values)


def use(path: Path) -> None:
    """All that is done with an index."""
    index = Index(path.parent)
    for modality in MODALITIES:
        if len(index.numbers(modality)):
            for query in QUERIES[:2]:
                found = index.nearest(query, modality, 7)
                items = index.store.items([number for number, _ in found])
                hits = [index.hit(number, item, score) for (number, score), item in zip(found, items)]
                json.dumps([(hit.source, hit.texts, hit.labels, hit.score) for hit in hits], allow_nan=False)
    index.store.pictures.previewed([1, 2, 3])
    for number in (1, 5, 2**62):
        assert len(index.store.pictures.preview(number, "audio") or b"") <= 2**20
        assert (
            index.store.pictures.thumbnail(number) is None
            or len(index.store.pictures.thumbnail(number) or b"") <= 2**20
        )
    assert len(index) >= 0 and index.store.by_name() is not None and index.run.is_dir() is not None
    with rewritten(path, keep=True) as draft:
        draft.known(["item/0", "new/0"])
        draft.add(entries(embeddings(3, seed=5), "added"))
        write_graphs(draft, draft.about.similarity)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_sound_index_is_used(path: Path) -> None:
    index = Index(path.parent)
    assert index.is_approximate and len(index) == ITEMS
    use(path)
    assert len(Index(path.parent)) == ITEMS + 3 and Index(path.parent).store.items([1, ITEMS + 3])[1].id == "added/2"
    assert sorted(file.name for file in path.parent.iterdir()) == [NAME, f"{NAME}.lock"]


# What lies beside the file


def hot_journal(database: Path, super_journal: Path) -> bytes:
    """A journal of SQLite's, of a transaction over several files that was broken off, with nothing to be restored
    (sqlite.org/fileformat2.html, 3)."""
    page = int.from_bytes(database.read_bytes()[16:18], "big")
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(
        ">5I", 0, 0, database.stat().st_size // page, 512, page
    )  # records, nonce, pages, bytes of a sector and of a page
    name = bytes(super_journal)
    end = struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    return header.ljust(512, b"\0") + struct.pack(">I", 2**30 // page + 1) + name + end


def test_a_journal_beside_an_index_is_not_played_back(path: Path, victim: Path, tmp_path: Path) -> None:
    journal = path.with_name(f"{NAME}-journal")
    journal.write_bytes(hot_journal(path, victim))
    shutil.copytree(path.parent, tmp_path / "copy")
    before = snapshot(tmp_path)
    Index(path.parent).nearest(QUERIES[0], "image", 3)
    assert snapshot(tmp_path) == before
    use(path)  # which writes the index, and nothing else
    assert victim.read_text() == "precious" and journal.read_bytes() == hot_journal_of(before)
    uri = f"{(tmp_path / 'copy' / NAME).as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        connection.execute("SELECT * FROM about")
    assert not victim.exists()  # this is what such a journal does


def hot_journal_of(files: dict[str, bytes]) -> bytes:
    return files[f"index/{NAME}-journal"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm"])
def test_what_lies_beside_the_unfinished_index_is_not_looked_at(path: Path, victim: Path, ending: str) -> None:
    part = path.with_name(f"{NAME}.part")
    shutil.copy(path, part)
    beside = Path(f"{part}{ending}")
    beside.write_bytes(hot_journal(path, victim))
    use(path)
    assert victim.read_text() == "precious"
    beside.symlink_to(victim)
    use_again(path)
    assert victim.read_text() == "precious" and len(Index(path.parent)) == ITEMS + 3
    assert sorted(file.name for file in path.parent.iterdir()) == [NAME, f"{NAME}.lock"]


def use_again(path: Path) -> None:
    with rewritten(path, keep=True):
        pass


def test_a_file_with_a_log_is_not_written_to(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("DELETE FROM items")
        connection.commit()
        for ending in ("", "-wal", "-shm"):
            shutil.copy(f"{path}{ending}", f"{path}.kept{ending}")
    for ending in ("", "-wal", "-shm"):
        shutil.move(f"{path}.kept{ending}", f"{path}{ending}")
    before = snapshot(path.parent)
    assert len(Index(path.parent)) == ITEMS
    assert snapshot(path.parent) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{NAME}.part", f"{NAME}.lock"])
@pytest.mark.parametrize("kind", ["link", "second name", "dangling link", "folder"])
def test_links_in_the_place_of_what_is_written_are_not_followed(path: Path, victim: Path, name: str, kind: str) -> None:
    place = path.with_name(name)
    match kind:
        case "link":
            place.symlink_to(victim)
        case "second name":
            place.hardlink_to(victim)
        case "dangling link":
            place.symlink_to(victim.with_name("made"))
        case "folder":
            place.mkdir()
    before = path.read_bytes()
    if name.endswith(".part") and kind != "folder":
        use(path)
        assert len(Index(path.parent)) == ITEMS + 3
    else:
        with pytest.raises((XmrError, OSError), match=rf"{name}( is a link|: |')"):
            use(path)
        assert path.read_bytes() == before
    assert victim.read_text() == "precious" and not victim.with_name("made").exists()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_an_index_is_a_file_of_its_own(path: Path, victim: Path, kind: str) -> None:
    path.replace(victim)
    match kind:
        case "link":
            path.symlink_to(victim)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    for do in (lambda: Index(path.parent), lambda: use_again(path)):
        with pytest.raises(XmrError, match=rf"{NAME}(: not a regular file| is a link that leads out of its folder)"):
            do()


# What is in the file

ABOUT = "UPDATE about SET value = ? WHERE name = "
NOT_OURS = [
    "CREATE TABLE other (x)",
    "CREATE VIEW other AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    "CREATE TRIGGER other AFTER INSERT ON items BEGIN DELETE FROM items; END",
    "CREATE INDEX other ON items (abs(item))",
    "CREATE INDEX other ON items (key) WHERE key > ''",
    "CREATE VIRTUAL TABLE other USING fts5(x)",
    "ALTER TABLE items ADD COLUMN other AS (abs(item))",
    "ALTER TABLE items ADD COLUMN other CHECK (other IS NULL)",
    "ALTER TABLE thumbnails RENAME COLUMN jpeg TO other",
    "DROP TABLE thumbnails",
]


@pytest.mark.parametrize("statement", NOT_OURS)
def test_only_our_own_tables_are_read(path: Path, statement: str) -> None:
    change(path, statement)
    before = path.read_bytes()
    for do in (lambda: Index(path.parent), lambda: use_again(path)):
        with pytest.raises(XmrError, match=r"index\.sqlite: no index that can be read \(its tables are not"):
            do()
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", ["about", "items", "thumbnails", "previews", "graphs"])
def test_a_view_is_no_table(path: Path, table: str) -> None:
    columns = {"about": "'run', ''", "items": "i, i, i, i, i, i, i, i, i, i", "thumbnails": "i, i"}
    change(
        path,
        f"DROP TABLE {table}",
        f"CREATE VIEW {table} AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        f"SELECT {columns.get(table, 'i, i, i')} FROM n",
    )
    start = time.monotonic()
    with pytest.raises(XmrError, match=r"index\.sqlite: no index that can be read"):
        Index(path.parent)
    assert time.monotonic() - start < 5


def test_a_table_of_another_collation_is_not_read(path: Path) -> None:
    change(path, "DROP TABLE about", "CREATE TABLE about (name TEXT PRIMARY KEY COLLATE NOCASE, value TEXT NOT NULL)")
    with pytest.raises(XmrError, match="it has no table `about`"):
        Index(path.parent)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("run", "[]", "about: run: Input should be a valid string"),
        ("run", "5", "about: run: Input should be a valid string"),
        ("run", json.dumps("x" * 5000), "about: run: String should have at most 4096 characters"),
        ("run", '"a\\u0000b"', "about: run: String should match pattern"),
        ("run", DEEP, "about: 'run' is no JSON that can be read: recursion limit"),
        ("run", b"\xff", "no index that can be read"),
        ("fingerprint", "null", "about: fingerprint: Input should be a valid string"),
        ("similarity", '"os:system"', "about: similarity: Input should be"),
        ("similarity", "[[1]]", "about: similarity: Input should be"),
        ("version", "[1]", "version [1] of the format; this program reads versions 1, 2, 3, 4. Make the index again"),
        ("version", '"\\u001b]0;title\\u0007"', "version '\\x1b]0;title\\x07' of the format"),
        ("version", "9" * 5000, "about: 'version' is no JSON that can be read"),
        ("version", "NaN", "version nan of the format"),
        ("version", None, "version None of the format"),
        ("run", None, "about: run: Field required"),
    ],
)
def test_what_is_said_about_an_index_has_a_declared_shape(
    path: Path, name: str, value: str | bytes | None, reason: str
) -> None:
    if value is None:
        change(path, "DELETE FROM about WHERE name = ?", values=[name])
    else:
        change(path, f"{ABOUT}'{name}'", values=[value])
    with pytest.raises(XmrError) as caught:
        Index(path.parent)
    assert reason in str(caught.value) and NAME in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "column, value, reason",
    [
        ("texts", DEEP, "item 3: texts: Invalid JSON: recursion limit exceeded"),
        ("texts", '"a text"', "item 3: texts: Input should be a valid"),
        ("labels", "[1]", "item 3: labels: 0: Input should be a valid string"),
        ("labels", '["' + "x" * 2**23 + '"]', "bytes; at most 4,194,304 are read"),
        ("key", b"\xff", "it holds values of other types"),
        ("source", b"\xff", "it holds values of other types"),
        ("image", b"", "its embeddings are not all of one width"),
        ("image", b"123", "its embeddings are not all of one width"),
        ("image", bytes(8), "its embeddings are not all of one width"),
        ("image", "a string", "it holds values of other types"),
        ("image", 7, "it holds values of other types"),
        ("image", struct.pack("<4f", 0, math.nan, 0, 0), "an embedding is not finite, or too large"),
        ("image", struct.pack("<4f", 0, -math.inf, 0, 0), "an embedding is not finite, or too large"),
        ("image", struct.pack("<4f", 3e38, 3e38, 3e38, 3e38), "an embedding is not finite, or too large"),
        ("item", -5, "its items are not in order"),
        ("item", 2**63 - 1, "an item has the number 9223372036854775807"),
    ],
)
def test_items_hold_what_they_should(path: Path, column: str, value: Any, reason: str) -> None:
    change(path, "DELETE FROM graphs", "DELETE FROM items WHERE item > 6")
    change(path, f"UPDATE items SET {column} = ? WHERE item = 3", values=[value])
    before = path.read_bytes()
    for do in (use, use_again) if column not in ("image", "item") else (use,):
        with pytest.raises(XmrError) as caught:
            do(path)
        assert str(caught.value).startswith(str(path)) and reason in str(caught.value)
        assert len(str(caught.value)) < len(str(path)) + 400
    assert path.read_bytes() == before


def test_of_a_thumbnail_a_bounded_size_is_taken(path: Path) -> None:
    for value, reason in ((bytes(2**20 + 1), "the thumbnail of item 1 has 1,048,577 bytes"), ("text", "other types")):
        change(path, "UPDATE thumbnails SET jpeg = ? WHERE item = 1", values=[value])
        for do in (lambda: Index(path.parent).store.pictures.thumbnail(1), lambda: use_again(path)):
            with pytest.raises(XmrError, match=reason):
                do()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("bytes", bytes(2**20 + 1), "the preview of item 1 has 1,048,577 bytes"), ("bytes", "text", "other types"),
     ("modality", "text/html", "a preview of item 1 is of nothing that plays"), ("modality", b"audio", "other types")],
)  # fmt: skip
def test_a_preview_is_small_and_of_what_plays(path: Path, column: str, value: Any, reason: str) -> None:
    change(path, f"UPDATE previews SET {column} = ? WHERE item = 1", values=[value])
    for do in (lambda: use(path), lambda: use_again(path)):
        with pytest.raises(XmrError, match=reason):
            do()


def test_two_items_of_one_id_and_thumbnails_of_none(path: Path) -> None:
    change(path, "INSERT INTO thumbnails VALUES (201, x'00')")  # where the next item comes
    change(path, "INSERT INTO previews VALUES (202, 'audio', x'00')")
    use(path)
    store = Index(path.parent).store
    assert store.items([202])[0].previews == ()
    assert store.items([201])[0].id == "added/0" and store.pictures.thumbnail(201) == b"\xff\xd8\xff a jpeg"
    content = path.read_bytes()
    assert content.count(b"item/17some") == 1
    path.write_bytes(content.replace(b"item/17some", b"item/18some"))
    with pytest.raises(XmrError, match="two of its items have the same id"):
        use_again(path)


def interior_page(size: int, child: int) -> bytes:
    """A page of a table's tree, all of whose children are the same one (sqlite.org/fileformat2.html, 1.6)."""
    count = (size - 12) // 8
    cells = struct.pack(">IBB", child, 0x81, 0) * count  # the key 128, as a varint
    begin = size - len(cells)
    pointers = b"".join(struct.pack(">H", 4096 - size + begin + 6 * number) for number in range(count))
    header = struct.pack(">BHHHBI", 5, 0, count, 4096 - size + begin, 0, child)
    return (header + pointers).ljust(begin, b"\0") + cells


@pytest.mark.parametrize("table", ["about", "items", "sqlite_master"])
def test_a_tree_that_shares_its_branches_is_not_walked_without_end(path: Path, table: str) -> None:
    change(path, "UPDATE items SET image = NULL, text = NULL", "DELETE FROM items WHERE item > 9", "VACUUM")
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    root = found[0] if found else 1
    begin = 100 if root == 1 else 0
    content = bytearray(path.read_bytes())
    pages, levels = len(content) // size, 5
    for level in range(levels):  # 500 branches each
        content += interior_page(size, pages + level + 2)
    leaf = content[(root - 1) * size + begin : root * size]
    assert leaf[0] == 13  # a leaf of a table's tree
    content += leaf + bytes(begin)
    content[(root - 1) * size + begin : root * size] = interior_page(size - begin, pages + 1)
    content[28:32] = struct.pack(">I", pages + levels + 1)
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(XmrError, match="no index that can be read"):
        Index(path.parent)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "query, reason",
    [
        ("SELECT a.item, jpeg FROM items a, thumbnails", "it holds more than the file has room for"),
        (
            "SELECT 1, jpeg FROM thumbnails, items a, items b, items c WHERE a.item + b.item + c.item < 0",
            "interrupted",
        ),
    ],
)
def test_a_query_gives_no_more_than_a_file_can_hold_and_ends(path: Path, query: str, reason: str) -> None:
    with closing(Database.received(path, most_in_a_row=2**20)) as database:
        with pytest.raises(XmrError, match=reason):
            database.rows([int, bytes], query)
        assert len(database.rows([int, bytes], "SELECT item, jpeg FROM thumbnails")) == ITEMS
    with closing(Database.received(path, most_in_a_row=5000)) as database:
        with pytest.raises(XmrError, match="too big"):
            database.rows([int, bytes], "SELECT item, jpeg FROM thumbnails")


def test_items_that_are_not_there(path: Path) -> None:
    for look_up in (
        Index(path.parent).store.items,
        lambda items: Index(path.parent).store.embeddings_of("text", items),
    ):
        with pytest.raises(XmrError, match="it has no item 999"):
            look_up([1, 999])


def test_a_run_is_a_word_of_whoever_made_the_index(path: Path, victim: Path) -> None:
    change(path, f"{ABOUT}'run'", values=[json.dumps(f"{victim}/../../etc")])
    index = Index(path.parent)
    assert str(index.run) == f"{victim}/../../etc"


# Graphs


@pytest.fixture
def one_thread() -> Any:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # so that a graph is the same each time
    yield
    faiss.omp_set_num_threads(before)


def direct(rows: np.ndarray, similarity: Similarity) -> Neighbors:
    return Neighbors.of(rows, similarity, flat_up_to=0)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_graph_that_was_stored_is_the_one_that_was_made(similarity: Similarity, one_thread: None) -> None:
    rows, queries = embeddings(5000), embeddings(100, seed=1)
    made = direct(rows[:4000], similarity)
    graph = made.graph()
    assert graph is not None
    restored = Neighbors.of(rows[:4000], similarity, graph=graph)
    serialized = faiss.serialize_index(made._index)
    as_before = Neighbors(similarity, faiss.deserialize_index(serialized))
    assert restored.graph() == graph == as_before.graph() and len(graph) < serialized.nbytes - rows[:4000].nbytes
    for k in (1, 10, 300, 5000):
        for query in queries:
            expected = made.candidates(query, k)
            assert np.array_equal(restored.candidates(query, k), expected)
            assert np.array_equal(as_before.candidates(query, k), expected)
    as_before._index.add(restored_rows(restored, rows[4000:]))
    grown = Neighbors.of(rows, similarity, graph=graph)
    assert grown.graph() == as_before.graph()


def restored_rows(neighbors: Neighbors, rows: np.ndarray) -> np.ndarray:
    """As faiss is given them."""
    return direct(rows, neighbors.similarity)._index.reconstruct_n(0, len(rows))


class Numbers:
    """The numbers of a graph, by name."""

    def __init__(self, graph: bytes) -> None:
        self.all = np.frombuffer(graph, "<i4").copy()
        self.count = int(self.all[1])
        self.levels = self.all[3 : 3 + self.count]
        self.neighbors = self.all[3 + self.count :]
        self.offsets = np.concatenate([[0], np.cumsum(32 + 32 * self.levels)])

    def bytes(self) -> bytes:
        return self.all.tobytes()


def gap(graph: Numbers) -> None:
    graph.neighbors[1] = -1


def off_level(graph: Numbers) -> None:
    """A neighbor on a level on which it is not."""
    high = int(np.flatnonzero(graph.levels > 1)[0])
    graph.neighbors[graph.offsets[high] + 64] = int(np.flatnonzero(graph.levels == 1)[-1])


def setting(name: str, place: int, value: int) -> Callable[[Numbers], None]:
    def change(graph: Numbers) -> None:
        getattr(graph, name)[place] = value

    return change


ALTERED = [
    (setting("all", 0, 33), "its items have 33 links"),
    (setting("all", 1, 0), "it has 0 items"),
    (setting("all", 1, -1), "it has -1 items"),
    (setting("all", 1, ITEMS + 1), "it has 201 items, and there are 200"),
    (setting("all", 1, ITEMS - 1), "neighbors where|level is out of range|does not begin"),
    (setting("all", 1, 2**31 - 1), "it has 2,147,483,647 items"),
    (setting("all", 2, -1), "it does not begin at its highest level"),
    (setting("all", 2, ITEMS), "it does not begin at its highest level"),
    (setting("levels", 0, 0), "an item's level is out of range"),
    (setting("levels", 0, 7), "an item's level is out of range"),
    (setting("levels", 0, -(2**31)), "an item's level is out of range"),
    (setting("levels", 0, 2**31 - 1), "an item's level is out of range"),
    (setting("levels", 0, 6), "it does not begin at its highest level"),
    (setting("neighbors", 0, ITEMS), "a neighbor is out of range"),
    (setting("neighbors", -1, -2), "a neighbor is out of range"),
    (gap, "a list of neighbors has a gap"),
    (off_level, "a neighbor is not on level 1"),
]


@pytest.fixture(scope="module")
def graph() -> Content:
    made = direct(embeddings(), "cosine").graph()
    assert made is not None and (Numbers(made).levels > 1).any()
    return Content(made)


@pytest.mark.parametrize("alter, reason", ALTERED)
def test_a_graph_is_checked(path: Path, graph: bytes, alter: Callable[[Numbers], None], reason: str) -> None:
    numbers = Numbers(graph)
    alter(numbers)
    change(path, "UPDATE graphs SET bytes = ? WHERE modality = 'image'", values=[numbers.bytes()])
    with pytest.raises(XmrError, match=rf"index\.sqlite: images: no graph that can be used \(.*({reason})"):
        Index(path.parent)


@pytest.mark.parametrize("cut", [0, 3, 8, 12, 100, -4, -1])
def test_a_graph_is_whole(graph: bytes, cut: int) -> None:
    for content in (graph[:cut], graph + bytes(4)):
        with pytest.raises(XmrError, match="the graph: no graph that can be used"):
            Neighbors.of(embeddings(), "cosine", graph=content)


WRITE = """
import os, sys, faiss, numpy
rows = numpy.load(sys.argv[1])
width = rows.shape[1]
quantizer = faiss.IndexFlatL2(width)
index = faiss.IndexIVFFlat(quantizer, width, 1)
index.train(rows)
lists = faiss.OnDiskInvertedLists(1, index.code_size, sys.argv[2])
index.replace_invlists(lists)
index.add(rows)
faiss.write_index(index, sys.argv[3] + "-ivf")
nested = faiss.IndexHNSWFlat(width, 32)
nested.add(rows)
faiss.write_index(nested, sys.argv[3] + "-sound")
nested.storage = index
faiss.write_index(nested, sys.argv[3] + "-hnsw")
os._exit(0)  # who owns what is of no interest
"""
OPEN = """
import sys, faiss, numpy
index = faiss.deserialize_index(numpy.fromfile(sys.argv[1], numpy.uint8))
index.add(numpy.ones((500, index.d), numpy.float32))
"""


def python(code: str, *arguments: Path) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)


@pytest.fixture(scope="module")
def files_of_faiss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beginnings of the names of indexes that were taken once; "-ivf" and "-hnsw" name the file "lists" beside them."""
    folder = tmp_path_factory.mktemp("faiss")
    np.save(folder / "rows.npy", embeddings())
    python(WRITE, folder / "rows.npy", folder / "lists", folder / "index")
    return folder / "index"


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_of_faiss_is_not_opened(path: Path, files_of_faiss: Path, version: int, kind: str) -> None:
    file = Path(f"{files_of_faiss}-{kind}")
    content, lists = file.read_bytes(), files_of_faiss.with_name("lists")
    assert bytes(lists) in content
    lists.write_bytes(b"precious" * 20_000)
    change(path, "DELETE FROM graphs", f"UPDATE about SET value = '{version}' WHERE name = 'version'")
    change(path, "INSERT INTO graphs VALUES ('image', 0, ?)", values=[content])
    if version == 1:
        use(path)
    else:
        for do in (use, write_again):
            with pytest.raises(XmrError, match="no graph that can be used"):
                do(path)
    assert lists.read_bytes() == b"precious" * 20_000
    python(OPEN, file)
    assert lists.read_bytes() != b"precious" * 20_000  # this is what such an index does


def write_again(path: Path) -> None:
    with rewritten(path, keep=True) as draft:
        write_graphs(draft)


def test_an_index_of_the_first_version_is_searched_and_gets_a_graph_again(
    path: Path, files_of_faiss: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = Path(f"{files_of_faiss}-sound").read_bytes()
    change(path, "UPDATE about SET value = '1' WHERE name = 'version'", "DELETE FROM graphs")
    change(path, "INSERT INTO graphs VALUES ('image', 0, ?), ('text', 0, ?)", values=[graph, graph])
    with caplog.at_level(logging.WARNING):
        index = Index(path.parent)
    assert not index.is_approximate and len(caplog.records) == 1
    assert f"`xmr index RUN SHARDS --add --out {path.parent}` stores a graph again" in caplog.text
    found = [index.nearest(query, "image", 5) for query in QUERIES]
    use(path)
    caplog.clear()
    grown = Index(path.parent)
    assert grown.is_approximate and not caplog.records and grown.store.about.version == VERSION
    assert len(grown) == ITEMS + 3
    again = [[hit for hit in grown.nearest(query, "image", 8) if hit[0] <= ITEMS][:5] for query in QUERIES]
    assert again == found


FORMER_ITEMS = """
CREATE TABLE items (
    item INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, split TEXT NOT NULL,
    key TEXT NOT NULL, source TEXT NOT NULL, texts TEXT NOT NULL, labels TEXT NOT NULL, image BLOB, text BLOB
)
"""


def test_an_index_of_the_second_version_has_pictures_and_texts_and_makes_room_for_the_others(path: Path) -> None:
    expected = [Index(path.parent).nearest(query, "text", 5) for query in QUERIES]
    columns = "item, id, collection, split, key, source, texts, labels, image, text"
    change(
        path, f"CREATE TEMP TABLE kept AS SELECT {columns} FROM items", "DROP TABLE items", FORMER_ITEMS,
        "INSERT INTO items SELECT * FROM kept", "UPDATE about SET value = '2' WHERE name = 'version'",
        "DROP TABLE previews",
    )  # fmt: skip
    index = Index(path.parent)
    assert index.is_approximate and [index.nearest(query, "text", 5) for query in QUERIES] == expected
    assert [len(index.numbers(name)) for name in MODALITIES] == [ITEMS, ITEMS, 0, 0, 0]
    sound = Item("a sound", "some", "", "key", "a.wav", (), ())
    with rewritten(path, keep=True) as draft:
        draft.add([NewItem(sound, {"audio": embeddings(1)[0]}, None)])
    grown = Index(path.parent)
    assert grown.store.about.version == VERSION
    assert [len(grown.numbers(name)) for name in MODALITIES] == [ITEMS, ITEMS, 1, 0, 0]
    assert [grown.nearest(query, "text", 5) for query in QUERIES] == expected


def test_an_index_of_the_third_version_has_nothing_that_plays_and_makes_room_for_it(path: Path) -> None:
    items = Index(path.parent).store.items([1, 2])
    assert [item.previews for item in items] == [("audio",), ()]
    change(path, "DROP TABLE previews", "UPDATE about SET value = '3' WHERE name = 'version'")
    silent = Index(path.parent).store
    assert silent.items([1, 2]) == [replace(item, previews=()) for item in items]
    assert silent.pictures.preview(1, "audio") is None
    with rewritten(path, keep=True) as draft:
        draft.add([NewItem(replace(items[0], id="new"), {"audio": embeddings(1)[0]}, None, {"audio": b"an mp3"})])
    grown = Index(path.parent).store
    assert grown.about.version == VERSION and grown.items([1])[0].previews == ()
    assert grown.pictures.preview(ITEMS + 1, "audio") == b"an mp3"


# Anything


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / NAME


@pytest.fixture(scope="module", autouse=True)
def nothing_brought_to_the_disk() -> Any:
    with pytest.MonkeyPatch.context() as patch:  # 200 times takes long
        patch.setattr(draft_module, "fsync_file", lambda path: None)
        yield


class Content(bytes):
    """A file, of which a failing test shows no more than that."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """An index of few and small pages, in which damage hits something."""
    path = tmp_path_factory.mktemp("small") / NAME
    with rewritten(path, keep=False) as draft:
        draft.describe(run="/runs/one", fingerprint="1234", similarity="cosine")
        draft.add(entries(embeddings(60)))
        write_graphs(draft)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")
    return Content(path.read_bytes())


def check_use(path: Path) -> None:
    before = path.read_bytes()
    try:
        use(path)
    except XmrError as error:
        assert str(path.parent) in str(error) and len(str(error)) < len(str(path)) + 500
        assert path.read_bytes() == before
    else:
        assert len(Index(path.parent)) >= 3
    assert {file.name for file in path.parent.iterdir()} <= {NAME, f"{NAME}.lock"}


@pytest.mark.slow
@fuzzed
@given(data=st.data())
def test_any_file_ends_in_a_search_or_an_error(place: Path, small: Content, data: st.DataObject) -> None:
    place.write_bytes(data.draw(damaged(small).map(Content)))
    check_use(place)


VALUES = st.one_of(
    st.sampled_from([-1, 0, 1, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, 1e308, math.inf, "", "x" * 300_000, b"", b"\xff",
                     bytes(300_000), None, "null", "[]", "[1]", '["\\ud800"]', DEEP, "9" * 5000, "\0", "\x1b]0;t\x07",
                     struct.pack("<4f", math.nan, 0, 0, 0), struct.pack("<4f", *[1e30] * 4), bytes(20)]),
    st.binary(max_size=64),
    hostile(["a text", "another"], "/runs/one", 2),
)  # fmt: skip
COLUMNS = ["about.name", "about.value", "items.item", "items.id", "items.collection", "items.split", "items.key",
           "items.source", "items.texts", "items.labels", "items.image", "items.text", "thumbnails.item",
           "thumbnails.jpeg", "previews.item", "previews.modality", "previews.bytes", "graphs.modality",
           "graphs.piece", "graphs.bytes"]  # fmt: skip


@pytest.mark.slow
@fuzzed
@given(changes=st.lists(st.tuples(st.sampled_from(COLUMNS), VALUES, st.integers(0, 3), st.booleans()), min_size=1,
                        max_size=3))  # fmt: skip
def test_any_value_ends_in_a_search_or_an_error(
    place: Path, small: Content, changes: list[tuple[str, Any, int, bool]]
) -> None:
    place.write_bytes(small)
    for column, value, row, as_text in changes:
        table, column = column.split(".")
        if as_text and isinstance(value, bytes):
            value = value.decode(errors="replace")
        place_of = f"(SELECT rowid FROM {table} LIMIT 1 OFFSET {row})"
        with suppress(sqlite3.IntegrityError):
            change(place, f"UPDATE {table} SET {column} = ? WHERE rowid = {place_of}", values=[value])
    check_use(place)


NUMBERS = st.one_of(
    st.sampled_from([-2, -1, 0, 1, 2, 6, 7, ITEMS - 1, ITEMS, 2**31 - 1, -(2**31)]), st.integers(-1, ITEMS)
)


@st.composite
def altered(draw: st.DrawFn, graph: bytes) -> bytes:
    """A graph some of whose numbers are others."""
    numbers = Numbers(graph)
    high = np.flatnonzero(numbers.levels > 1)
    for _ in range(draw(st.integers(1, 4))):
        value = draw(NUMBERS)
        match draw(st.sampled_from(["head", "level", "neighbor", "upper", "last", "swap"])):
            case "head":
                numbers.all[draw(st.integers(0, 2))] = value
            case "level":
                numbers.levels[draw(st.integers(0, ITEMS - 1))] = value
            case "neighbor":
                numbers.neighbors[draw(st.integers(0, len(numbers.neighbors) - 1))] = value
            case "upper":
                begin = numbers.offsets[draw(st.sampled_from(high.tolist()))] + 64
                numbers.neighbors[begin + draw(st.integers(0, 31))] = value
            case "last":
                numbers.neighbors[-1 - draw(st.integers(0, 63))] = value
            case "swap":
                one, other = (draw(st.integers(0, ITEMS - 1)) for _ in range(2))
                numbers.levels[[one, other]] = numbers.levels[[other, one]]
    return numbers.bytes()


@pytest.mark.slow
@fuzzed
@given(data=st.data(), similarity=st.sampled_from(SIMILARITIES))
def test_any_graph_ends_in_a_search_or_an_error(graph: bytes, data: st.DataObject, similarity: Similarity) -> None:
    content = data.draw(st.one_of(altered(graph), altered(graph), damaged(graph)).map(Content))
    rows = np.concatenate([embeddings(), embeddings(30, seed=3)])
    for count in (ITEMS, ITEMS + 30):  # and 30 to be added
        try:
            neighbors = Neighbors.of(rows[:count], similarity, graph=content)
        except XmrError as error:
            assert str(error).startswith("the graph: no graph that can be used")
        else:
            for query in QUERIES:
                found = neighbors.candidates(query, 7)
                assert 1 <= len(found) <= 7 and found.max() < count
            assert graph_bytes(neighbors._index)
