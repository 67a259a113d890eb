"""Indexes: they rank as the evaluation does, are whole or not there, grow, and belong to one model."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import xmr_e2e
from tests.helpers.drawn import COLORS
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.ranking import nearest
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.search import draft, indexing
from xmr_e2e.search.command import index_command, search_command
from xmr_e2e.search.draft import NewItem, rewritten
from xmr_e2e.search.index import Index, search_index
from xmr_e2e.search.indexing import make_index
from xmr_e2e.search.query import search
from xmr_e2e.search.store import Item
from xmr_e2e.search.vectors import Neighbors
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.similarity import Similarity

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.searched"]

SIMILARITIES = get_args(Similarity)


# Neighbors


def gallery(seed: int, count: int, width: int) -> np.ndarray:
    """Embeddings around a few centres, of different lengths, each third one there twice."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(10, width))[random.integers(10, size=count)] + 0.6 * random.normal(size=(count, width))
    rows *= random.uniform(0.2, 3, size=(count, 1))
    rows[1::3] = rows[: len(rows[1::3])]
    return rows.astype(np.float32)


def ranked(neighbors: Neighbors, items: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    candidates = neighbors.candidates(query, k)
    rows, _ = nearest(query[None], items[candidates], similarity=neighbors.similarity, k=k)
    return candidates[rows[0].numpy()].tolist()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_an_exact_index_ranks_as_the_evaluation_with_its_ties(similarity: Similarity) -> None:
    items, queries = gallery(0, 500, 7), gallery(1, 20, 7)
    expected, _ = nearest(queries, items, similarity=similarity)
    neighbors = Neighbors.of(items, similarity)
    assert not neighbors.is_approximate
    for k in (1, 10, 499, 800):
        found = [ranked(neighbors, items, query, k) for query in queries]
        assert found == expected[:, :k].tolist()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_of_items_that_are_all_alike_the_first_ones_win(similarity: Similarity) -> None:
    items = np.tile(np.array([[3, 1, 2]], np.float32), (300, 1))
    assert ranked(Neighbors.of(items, similarity), items, np.array([1, 0, 5], np.float32), 10) == list(range(10))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_graph_finds_nearly_all_that_an_exact_index_finds(similarity: Similarity) -> None:
    items, queries = np.unique(gallery(2, 4500, 24), axis=0), gallery(3, 100, 24)
    expected, _ = nearest(queries, items, similarity=similarity, k=10)
    begun = Neighbors.of(items[:2000], similarity, flat_up_to=1000)
    neighbors = Neighbors.of(items, similarity, graph=begun.graph(), flat_up_to=1000)  # to which the rest is added
    assert begun.is_approximate and neighbors.is_approximate and len(neighbors) == len(items)
    found = [set(ranked(neighbors, items, query, 10)) for query in queries]
    recall = np.mean([len(own & set(best)) / 10 for own, best in zip(found, expected.tolist())])
    assert recall >= 0.99


def test_embeddings_of_a_diverged_model_are_refused() -> None:
    with pytest.raises(XmrError, match="diverged"):
        Neighbors.of(np.array([[1, np.nan]], np.float32), "cosine")


# The file


def entry(name: str) -> NewItem:
    return NewItem(Item(name, "some", "test", name, name, (), ()), {"image": np.ones(3, np.float32)}, b"a jpeg")


def write_and_die(path: Path, keep: bool) -> None:
    with rewritten(path, keep=keep) as store:
        store.describe(run="", fingerprint="", similarity="cosine")
        store.add([entry(f"late {number}") for number in range(2000)])
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("keep", [False, True])
def test_a_killed_process_leaves_the_old_index_or_none(tmp_path: Path, keep: bool) -> None:
    path = tmp_path / "index.sqlite"
    if keep:
        with rewritten(path, keep=False) as store:
            store.add([entry("early")])
    before = path.read_bytes() if keep else None
    process = multiprocessing.get_context("fork").Process(target=write_and_die, args=(path, keep))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    with rewritten(path, keep=keep) as store:  # what it left is in nobody's way
        store.add([entry("next")])
        assert [item.id for item in store.items(store.embeddings("image")[0].tolist())] == ["early"] * keep + ["next"]
    assert not path.with_name("index.sqlite.part").exists()


def test_an_index_that_is_being_written_is_not_written_by_another_process(tmp_path: Path) -> None:
    with rewritten(tmp_path / "index.sqlite", keep=False):
        with (
            pytest.raises(XmrError, match="another process is writing"),
            rewritten(tmp_path / "index.sqlite", keep=False),
        ):
            pass


def test_who_has_an_index_open_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with rewritten(path, keep=False) as store:
        store.describe(run="", fingerprint="", similarity="cosine")
        store.add([entry("old")])
    opened = Index(tmp_path)
    with rewritten(path, keep=False) as store:
        store.describe(run="", fingerprint="", similarity="cosine")
        store.add([entry("new"), entry("newer")])
    assert [item.id for item in opened.store.items([1])] == ["old"]
    assert len(opened) == 1 and len(Index(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0 and then nothing", b"x" * 9000])
def test_a_damaged_index_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "index.sqlite").write_bytes(damage)
    with pytest.raises(XmrError, match=r"index\.sqlite: .*--overwrite"):
        Index(tmp_path)


def test_an_index_of_another_version_is_named(tmp_path: Path) -> None:
    with rewritten(tmp_path / "index.sqlite", keep=False) as store:
        store.describe(version=99)
    with pytest.raises(XmrError, match="version 99 of the format"):
        Index(tmp_path)


# Indexes of a run


@pytest.fixture(scope="module")
def model(learnt_run: Path) -> SavedModel:
    return xmr_e2e.load(learnt_run)


@pytest.fixture(scope="module")
def indexed(learnt_run: Path, tiny_shards: Path, model: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the test split; a test that changes it copies it first."""
    out = tmp_path_factory.mktemp("indexed") / "index"
    make_index(model, learnt_run, tiny_shards, out, splits=["test"])
    return out


@pytest.fixture
def own(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "own"))


@pytest.fixture
def photo(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    return make_image(tmp_path / "photo.png", color=(40, 170, 60), seed=99)


def test_an_index_finds_what_a_search_without_it_finds(model: SavedModel, indexed: Path, photo: Path) -> None:
    index = Index(indexed)
    for query in ("a picture of apple number 4", "here is one more leaf", photo):
        found, expected = search_index(index, model, query, k=20), search(model, query, "test", k=20)
        assert len(found) == 12
        assert [hit.key for hit in found] == [hit.key for hit in expected]
        assert [hit.score for hit in found] == [hit.score for hit in expected]
        assert [(h.source, h.texts, h.labels) for h in found] == [(h.source, h.texts, h.labels) for h in expected]
    assert [hit.labels for hit in search_index(index, model, "here is one more leaf", k=3)] == [("leaf",)] * 3
    assert [hit.labels for hit in search_index(index, model, photo, k=3)] == [("leaf",)] * 3


def test_thumbnails_are_small_jpegs(model: SavedModel, learnt_run: Path, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    Image.new("RGB", (4000, 300), "red").save(tmp_path / "wide" / "large.png")
    make_index(model, learnt_run, tmp_path / "wide", tmp_path / "index")
    jpeg = Index(tmp_path / "index").store.pictures.thumbnail(1)
    assert jpeg is not None
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (320, 24))


def test_all_splits_are_indexed_where_none_is_named(model: SavedModel, learnt_run: Path, tiny_shards: Path,
                                                    own: Path) -> None:  # fmt: skip
    result = make_index(model, learnt_run, tiny_shards, own, add=True)
    assert (result.added, result.present) == (52, 12)
    index = Index(own)
    assert index.store.collections() == [("tiny", "test", 12), ("tiny", "train", 40), ("tiny", "val", 12)]
    assert len(index) == len(index.numbers("image")) == len(index.numbers("text")) == 64


def test_pictures_are_added_without_training_and_only_once(
    model: SavedModel, learnt_run: Path, own: Path, tmp_path: Path, make_image: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    before = Index(own)
    folder = tmp_path / "holiday"
    make_image(folder / "day 1" / "the sea.jpg", color=(40, 80, 200), seed=5)
    shutil.copy(folder / "day 1" / "the sea.jpg", folder / "again.jpg")
    (folder / "words.jpg").write_text("no picture")
    with open(folder / "zeros.jpg", "wb") as stream:
        stream.truncate(2**40)
    (folder / "notes.txt").write_text("words")
    result = make_index(model, learnt_run, folder, own, add=True)
    assert (result.added, result.present, result.unusable) == (1, 1, 2)
    assert "words.jpg is left out: not an image" in caplog.text
    assert "zeros.jpg: 1,099,511,627,776 bytes; at most 1,073,741,824 are read: left out" in caplog.text
    index = Index(own)
    assert (len(index), len(index.numbers("text"))) == (13, 12)
    assert index.store.items(list(range(1, 13))) == before.store.items(list(range(1, 13)))
    added = next(hit for hit in search_index(index, model, "here is one more sea", k=4) if not hit.texts)
    assert added.source == "again.jpg" and added.image == index.store.pictures.thumbnail(13)
    (folder / "again.jpg").rename(folder / "another name.jpg")
    result = make_index(model, learnt_run, folder, own, add=True)
    assert (result.added, result.present) == (0, 2)
    assert len(Index(own)) == 13


def test_originals_of_resized_shards_are_there_already(
    model: SavedModel, learnt_run: Path, tmp_path: Path, make_image: Callable[..., Path]
) -> None:
    raw = tmp_path / "raw"
    samples = []
    for number, (folder, color) in enumerate((f, c) for f in ("a", "b") for c in COLORS.values()):
        # the same names in both folders; the pictures differ
        image = make_image(raw / folder / f"{number % 4}.jpg", color=color, size=(400, 300), seed=number, quality=95)
        samples.append(RawSample(f"{folder}/{image.name}", "test", image, ("a text",), ("apple",)))
    flat = Image.new("RGB", (300, 300), "red")
    flat.save(raw / "flat.jpg")
    samples.append(RawSample("flat.jpg", "test", raw / "flat.jpg", ("a text",), ("apple",)))
    options = BuildOptions(shard_samples=8, workers=1, resize=64)
    build_shards(tmp_path / "shards", dataset="tiny", classes=["apple"], samples=samples, options=options)
    out = tmp_path / "index"
    make_index(model, learnt_run, tmp_path / "shards", out)
    make_image(raw / "c" / "0.jpg", color=(90, 90, 90), size=(400, 300), seed=50)  # a name that is there, not its look
    Image.new("RGB", (300, 300), "blue").save(raw / "c" / "flat.jpg")
    shutil.copy(raw / "a" / "1.jpg", raw / "renamed.jpg")
    result = make_index(model, learnt_run, raw, out, add=True)
    assert (result.added, result.present) == (2, 10)
    assert len(Index(out)) == 11


def test_files_that_are_no_pictures_are_counted_and_named(
    learnt_run: Path, tmp_path: Path, make_image: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "phone"
    make_image(folder / "0.jpg")
    for name in ("1.HEIC", "._0.jpg", "notes.pdf", ".cache/2.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"ftypheic")
    index_command(learnt_run, folder, out=tmp_path / "index")
    said = capsys.readouterr().out
    assert "1 items added" in said and "cannot be read" not in said
    assert f"2 files are not used: 1 .heic ({folder}/1.HEIC), 1 .pdf" in said
    (folder / "0.jpg").unlink()
    with pytest.raises(XmrError, match=r"nor is there a file that the model embeds\. 2 files are not used: 1 \.heic"):
        index_command(learnt_run, folder, out=tmp_path / "other")


@pytest.mark.parametrize("how", ["cut", "overwritten"])
def test_an_index_that_is_damaged_further_on_is_named(model: SavedModel, own: Path, how: str) -> None:
    path = own / "index.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "cut" else content[:4096] + b"x" * (len(content) - 4096))
    with pytest.raises(XmrError, match=r"index\.sqlite: no index that can be read .*--overwrite"):
        search_index(Index(own), model, "the sea", k=12)


def test_a_full_disk_is_named(model: SavedModel, learnt_run: Path, tiny_shards: Path, own: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = (own / "index.sqlite").read_bytes()
    few_pages = f"PRAGMA max_page_count = 12; {draft.SCHEMA}"
    for name, value in (("fsync_file", full), ("SCHEMA", few_pages)):
        with monkeypatch.context() as patch:
            patch.setattr(draft, name, value)
            with pytest.raises(XmrError, match=r"index\.sqlite cannot be written: (No space left on device|.*is full)"):
                make_index(model, learnt_run, tiny_shards, own, splits=["val"], add=True)
    assert (own / "index.sqlite").read_bytes() == before and not (own / "index.sqlite.part").exists()


def test_a_large_index_keeps_its_graph_and_grows(model: SavedModel, learnt_run: Path, tiny_shards: Path,
                                                 indexed: Path, own: Path) -> None:  # fmt: skip
    make_index(model, learnt_run, tiny_shards, own, splits=["test"], overwrite=True, flat_up_to=5)
    assert Index(own).is_approximate and not Index(indexed).is_approximate
    query = "a picture of sea number 2"
    assert [h.key for h in search_index(Index(own), model, query)] == [
        h.key for h in search_index(Index(indexed), model, query)
    ]
    make_index(model, learnt_run, tiny_shards, own, splits=["val"], add=True, flat_up_to=5)
    grown = Index(own)
    assert grown.is_approximate and len({hit.key for hit in search_index(grown, model, query, k=30)}) == 24


def test_another_model_is_refused(model: SavedModel, learnt_run: Path, tiny_shards: Path, own: Path,
                                  tmp_path: Path) -> None:  # fmt: skip
    other = Path(shutil.copytree(learnt_run, tmp_path / "other"))
    copied = xmr_e2e.load(other)
    assert search_index(Index(own), copied, "one more sun", k=1)  # the same model, wherever it lies
    weights = load_file(other / "model.safetensors")
    name = next(name for name, value in weights.items() if value.is_floating_point())
    save_file(weights | {name: weights[name] + torch.tensor(1e-3)}, other / "model.safetensors")
    changed = xmr_e2e.load(other)
    with pytest.raises(XmrError, match=r"was made with another model.* --overwrite"):
        search_index(Index(own), changed, "one more sun")
    before = (own / "index.sqlite").read_bytes()
    with pytest.raises(XmrError, match="was made with another model"):
        make_index(changed, other, tiny_shards, own, splits=["val"], add=True)
    assert (own / "index.sqlite").read_bytes() == before


@pytest.mark.parametrize("add", [False, True])
def test_an_interrupted_index_leaves_what_was_there(
    model: SavedModel, learnt_run: Path, tiny_shards: Path, own: Path, tmp_path: Path, add: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    calls = []

    def thumbnail(data: bytes, side: int, *, max_pixels: int) -> bytes:
        calls.append(data)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return data

    monkeypatch.setattr(indexing, "thumbnail", thumbnail)
    out = own if add else tmp_path / "new"
    before = (own / "index.sqlite").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        make_index(model, learnt_run, tiny_shards, out, splits=["val"], add=add)
    assert [path.name for path in out.iterdir() if not path.name.endswith(".lock")] == ["index.sqlite"] * add
    assert (own / "index.sqlite").read_bytes() == before


def test_what_cannot_be_indexed_is_said(model: SavedModel, learnt_run: Path, tiny_shards: Path, own: Path,
                                        tmp_path: Path, photo: Path) -> None:  # fmt: skip
    def made(source: Path, out: Path = tmp_path / "new", **options: object) -> None:
        make_index(model, learnt_run, source, out, **options)  # type: ignore[arg-type]

    with pytest.raises(XmrError, match=r"exists; add to it with --add, or make it again with --overwrite"):
        made(tiny_shards, own)
    with pytest.raises(XmrError, match="does not exist: make an index"):
        made(tiny_shards, add=True)
    with pytest.raises(XmrError, match=r"manifest\.json does not exist"):
        made(tmp_path / "nowhere")
    with pytest.raises(XmrError, match="no folder of shards, and has no splits"):
        made(photo.parent, splits=["test"])
    with pytest.raises(XmrError, match="no split 'dev'"):
        made(tiny_shards, splits=["dev"])
    with pytest.raises(XmrError, match="does not exist: make an index"):
        Index(tmp_path / "new")


def test_the_commands_use_the_index_of_the_run(
    learnt_run: Path, tiny_shards: Path, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    run = Path(shutil.copytree(learnt_run, tmp_path / "run"))
    index_command(run, tiny_shards, split=("test", "val"))
    printed = capsys.readouterr().out
    assert f"24 items added to {run / 'index'}" in printed and "exact search" in printed
    search_command(run, "here is one more sun", k=20, shards=None)
    printed = capsys.readouterr().out
    assert "(index)" in printed and "val_3.jpg" in printed and "test_3.jpg" in printed
    assert (run / "search" / "here_is_one_more_sun-index.png").is_file()
    search_command(run, "here is one more sun", k=20, split="test")
    printed = capsys.readouterr().out
    assert "(test)" in printed and "val_3.jpg" not in printed
    elsewhere = tmp_path / "elsewhere"
    index_command(run, photo.parent / "run" / "search", out=elsewhere)
    assert "2 items added" in capsys.readouterr().out
    search_command(run, "the sea", index=elsewhere)
    assert "here_is_one_more_sun-index.png" in capsys.readouterr().out
    with pytest.raises(XmrError, match="leave out --split"):
        search_command(run, "the sea", index=elsewhere, split="test")
    with pytest.raises(XmrError, match="leave out one of them"):
        index_command(run, tiny_shards, add=True, overwrite=True)
    with sqlite3.connect(elsewhere / "index.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
