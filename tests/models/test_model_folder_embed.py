"""`xmr embed`: what is written, in which order, and what happens to files that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xmr_e2e
from tests.helpers.made_models import make_model
from xmr_e2e.cli import main
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.models import embedding_files as embeddings
from xmr_e2e.models import sources

TEXTS = ("a picture of apple", "the sea, wide & blue")


@pytest.fixture(scope="module")
def run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed") / "run"
    folder.mkdir()
    model = make_model(tiny_shards)
    model.save(folder, model.method.state_dict(), "untrained")
    return folder


@pytest.fixture
def files(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """A folder with five pictures, one of them in a folder, and two texts; what is hidden or of another kind is not
    meant."""
    folder = tmp_path / "my files"
    for number in range(4):
        make_image(folder / f"{number}.jpg", seed=number)
    make_image(folder / "more" / "é.PNG", size=(50, 90))
    make_image(folder / ".cache" / "hidden.jpg")
    (folder / "._0.jpg").write_bytes(b"not a picture")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    (folder / "texts.txt").write_text(f"\ufeff{TEXTS[0]}\n\n  \n{TEXTS[1]}\n", encoding="utf-8")
    return folder


def embed(run: Path, *arguments: str | Path) -> int:
    return main(["embed", str(run), *map(str, arguments)])


def rows_of(table: pa.Table) -> np.ndarray:
    return np.array(table["embedding"].to_pylist(), np.float32)


@pytest.mark.slow
def test_pictures_and_texts_of_a_folder(
    run: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "ROWS", 3)
    monkeypatch.setattr(sources, "BATCH", 2)
    out = tmp_path / "new" / "x.parquet"
    assert embed(run, files, "--out", out) == 0
    assert f"7 embeddings written: {out}" in capsys.readouterr().out
    table, model = pq.read_table(out), xmr_e2e.load(run)
    pictures = [*(files / f"{number}.jpg" for number in range(4)), files / "more" / "é.PNG"]
    assert table["id"].to_pylist() == [*map(str, pictures), f"{files}/texts.txt:1", f"{files}/texts.txt:4"]
    assert table["modality"].to_pylist() == ["image"] * 5 + ["text"] * 2
    assert table["text"].to_pylist() == [None] * 5 + list(TEXTS)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    expected = np.concatenate([model.embed_images(pictures), model.embed_texts(TEXTS)])
    np.testing.assert_allclose(rows_of(table), expected, rtol=1e-4, atol=1e-5)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about == {"fingerprint": model.fingerprint, "similarity": "pearson", "selection": "untrained"}
    assert pq.ParquetFile(out).num_row_groups == 2  # written as they came: 2 + 2 and 1 + 2
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_of_shards_in_order_of_position(run: Path, tiny_shards: Path, tmp_path: Path, split: str) -> None:
    assert embed(run, tiny_shards, "--split", split, "--out", tmp_path / "x.parquet") == 0
    table, model, reader = pq.read_table(tmp_path / "x.parquet"), xmr_e2e.load(run), SplitReader(tiny_shards, split)
    keys = [reader.key(position) for position in range(len(reader))]
    assert table["id"].to_pylist() == keys * 2
    assert table["modality"].to_pylist() == ["image"] * len(keys) + ["text"] * len(keys)
    texts = [" ".join(reader.metadata(position).texts) for position in range(len(reader))]
    assert table["text"].to_pylist() == [None] * len(keys) + texts
    expected = np.concatenate([model.embed_split(split, modality) for modality in ("image", "text")])
    np.testing.assert_allclose(rows_of(table), expected, rtol=1e-4, atol=1e-5)


def test_files_that_cannot_be_used_are_counted_and_named_up_to_a_budget(
    run: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "1.jpg").write_bytes((files / "1.jpg").read_bytes()[:300])
    (files / "2.jpg").write_text("a text that is named like a picture")
    (files / "latin.txt").write_bytes("zwölf".encode("latin-1"))
    out = tmp_path / "x.parquet"
    out.write_text("what was there before")
    for budget in ([], ["--max-skipped", "2"]):
        assert embed(run, files, "--out", out, *budget) == 2
        said = capsys.readouterr().err
        assert f"{files}/latin.txt: is no UTF-8 text" in said and "Nothing is written" in said
    assert "3 of the files cannot be used" in said and f"{files}/1.jpg: the image" in said
    assert out.read_text() == "what was there before" and not list(tmp_path.glob("*.part"))
    assert embed(run, files, "--out", out, "--max-skipped", "3") == 0
    said = capsys.readouterr().out
    assert "5 embeddings written" in said and "3 files left out:" in said and f"{files}/2.jpg: the image" in said
    assert [Path(name).name for name in pq.read_table(out)["id"].to_pylist()] == [
        "0.jpg",
        "3.jpg",
        "é.PNG",
        "texts.txt:1",
        "texts.txt:4",
    ]


@pytest.mark.parametrize("ending", [".npy", ".npz", ".NPZ"])
def test_numpy_reads_what_is_named_so(run: Path, files: Path, tmp_path: Path, ending: str) -> None:
    assert embed(run, files, "--out", tmp_path / "x.parquet") == 0
    assert embed(run, files, "--out", tmp_path / f"x{ending}") == 0
    table, read = pq.read_table(tmp_path / "x.parquet"), np.load(tmp_path / f"x{ending}")
    expected = rows_of(table)
    if ending == ".npy":
        assert np.array_equal(read, expected) and read.dtype == np.float32
        return
    assert np.array_equal(read["embedding"], expected)
    assert read["id"].tolist() == table["id"].to_pylist()
    assert read["modality"].tolist() == table["modality"].to_pylist()
    assert read["text"].tolist() == [text or "" for text in table["text"].to_pylist()]
    assert str(read["similarity"]) == "pearson" and not list(tmp_path.glob("*.part"))


def test_another_ending_is_refused_before_anything_is_loaded(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x.xyz", "x", "x.parquet.gz", "x.csv"):
        assert embed(tmp_path / "no run", files, "--out", tmp_path / name) == 2
        assert f"{name}: the name must end in .parquet, .npz, .npy" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "folder.npy").mkdir()
    assert embed(tmp_path / "no run", files, "--out", tmp_path / "folder.npy") == 2
    assert "folder.npy is a folder" in " ".join(capsys.readouterr().err.split())


def test_what_is_not_used_and_what_is_unknown_is_said(
    run: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("h0.HEIC", "more/h1.heic", ".hidden.heic", "Thumbs.db", "__MACOSX/x.pdf"):
        (files / name).parent.mkdir(exist_ok=True)
        (files / name).write_bytes(b"ftypheic")
    (files / "j0.jfif").write_bytes((files / "0.jpg").read_bytes())
    (files / "strange.txt").write_text("zzz qqq\nthe sea\n犬犬\n")
    assert embed(run, files, "--out", tmp_path / "x.npy") == 0
    said = capsys.readouterr().out
    assert "11 embeddings written" in said
    assert f"3 files are not used: 2 .heic (such as {files}/h0.HEIC), 1 .pdf ({files}/notes.pdf); convert" in said
    assert f"no word of 2 texts is known to the model, such as {files}/strange.txt:1" in said
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.HEIC").write_bytes(b"ftypheic")
    assert embed(run, tmp_path / "phone", "--out", tmp_path / "y.npy") == 2
    assert "1 file is not used: 1 .heic" in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_embedded_is_said(
    run: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n\n")
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ([files / "notes.pdf"], "notes.pdf: neither a picture (.jpg,"),
        ([files / "9.jpg"], "9.jpg does not exist"),
        ([tmp_path / "empty"], "empty: a folder without shards, pictures"),
        ([tmp_path / "blank.txt"], "there is nothing to embed"),
        ([files / "0.jpg", "--out", tmp_path / "file" / "x.parquet"], "x.parquet cannot be written"),
    ):
        out = [] if "--out" in arguments else ["--out", tmp_path / "x.parquet"]
        assert embed(run, *arguments, *out) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x.parquet").exists()
