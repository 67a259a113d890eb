"""Sounds, videos and shapes are asked with and found: in a split, in an index of shards, and in a folder of files."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xmr_e2e
from tests.helpers.five_models import save_five
from tests.helpers.raw_media import CLASSES, five_modalities, write_shape, write_sound
from xmr_e2e.data.media_pictures import draw_media
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.search.command import index_command, search_command
from xmr_e2e.search.drawings import draw_file
from xmr_e2e.search.index import Index, search_index
from xmr_e2e.search.indexing import make_index
from xmr_e2e.search.query import Hit, as_file, save_sheet, search
from xmr_e2e.shards.schema import MODALITIES

pytestmark = pytest.mark.slow

ENDINGS = {"image": ".png", "audio": ".wav", "video": ".mp4", "shape3d": ".off"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return five_modalities(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_five(shards, folder)
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> xmr_e2e.SavedModel:
    return xmr_e2e.load(run)


@pytest.fixture(scope="module")
def indexed(model: xmr_e2e.SavedModel, run: Path, shards: Path) -> Path:
    """The index of the test split; a test that changes it copies it first."""
    make_index(model, run, shards, run / "index", splits=["test"])
    return run / "index"


def query_of(shards: Path, modality: str) -> str | Path:
    return "a low humming note" if modality == "text" else shards.parent / "raw" / f"val0{ENDINGS[modality]}"


def ranking(model: xmr_e2e.SavedModel, shards: Path, query: str | Path, modalities: list[str]) -> list[tuple[str, str]]:
    """Source and modality of the items of the test split, by their cosine similarity: brute force."""
    own = "text" if isinstance(query, str) else next(name for name, end in ENDINGS.items() if end == query.suffix)
    (asked,) = model.embed_texts([str(query)]) if own == "text" else model.embed_files(own, [Path(query)])
    reader, found = SplitReader(shards, "test"), []
    for name in modalities:
        rows = model.embed_split("test", name)
        scores = rows @ asked / np.linalg.norm(rows, axis=1) / np.linalg.norm(asked)
        sources = [reader.metadata(position).source for position in reader.positions_with([name]).tolist()]
        found += [(-score, source, name) for score, source in zip(scores.tolist(), sources)]
    # Equal texts have equal scores, and stay in the order of the split.
    return [(source, name) for _, source, name in sorted(found, key=lambda entry: round(entry[0], 6))]


def told(hits: list[Hit]) -> list[tuple[str, str]]:
    return [(hit.source, hit.modality) for hit in hits]


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_query_of_each_kind_finds_the_items_of_all_others(
    model: xmr_e2e.SavedModel, shards: Path, indexed: Path, modality: str
) -> None:
    query, others = query_of(shards, modality), [name for name in MODALITIES if name != modality]
    assert model.similarity == "cosine"
    expected = ranking(model, shards, query, others)
    hits = search(model, query, "test", k=16)
    assert len(hits) == 16 and told(hits) == expected and {name for _, name in expected} == set(others)
    found = search_index(Index(indexed), model, query, k=16)
    assert told(found) == expected and [hit.score for hit in found] == [hit.score for hit in hits]
    assert (
        told(search(model, query, "test", k=3, finds=["audio", modality]))
        == ranking(model, shards, query, ["audio"] if modality == "audio" else ["audio", modality])[:3]
    )
    assert {hit.labels for hit in hits} == {(name,) for name in CLASSES}


def test_what_can_be_seen_has_a_picture_and_a_text_has_none(
    model: xmr_e2e.SavedModel, shards: Path, indexed: Path, tmp_path: Path
) -> None:
    query = query_of(shards, "audio")
    in_split, in_index = search(model, query, k=100), search_index(Index(indexed), model, query, k=100)
    for hits in (in_split, in_index):
        shown = {hit.modality: hit.image for hit in hits}
        assert shown.pop("text") is None
        for image in shown.values():
            assert image is not None and len(image) < 2**16 and Image.open(io.BytesIO(image)).width <= 320
        assert len(set(shown.values())) == 3
    save_sheet(tmp_path / "sheet.png", query, in_index[:6])
    assert Image.open(tmp_path / "sheet.png").width > 0


def test_files_of_a_folder_are_added_by_what_they_are_and_only_once(
    model: xmr_e2e.SavedModel, run: Path, shards: Path, indexed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Path(shutil.copytree(indexed, tmp_path / "own"))
    folder, raw = tmp_path / "things", shards.parent / "raw"
    (folder / "deep").mkdir(parents=True)
    for number, ending in enumerate(ENDINGS.values()):
        shutil.copy(raw / f"train{number}{ending}", folder / f"some thing{ending}")
    shutil.copy(raw / "train1.wav", folder / "deep" / "the same sound.wav")
    write_sound(folder / "deep" / "some thing.WAV", 700, seed=5)
    write_shape(folder / "deep" / "some thing.off", 2.0, seed=5)
    (folder / "broken.mp4").write_bytes((raw / "train0.mp4").read_bytes()[:100])
    (folder / "words.stl").write_text("no shape")
    (folder / "notes.pdf").write_text("words")
    result = make_index(model, run, folder, own, add=True)
    assert (result.added, result.present, result.unusable) == (6, 1, 2)
    assert [path.name for path in result.unused] == ["notes.pdf"]
    assert "broken.mp4: " in caplog.text and "words.stl: the shape cannot be read" in caplog.text
    assert caplog.text.count(": left out") == 2
    index = Index(own)
    assert [len(index.numbers(name)) for name in MODALITIES] == [5, 4, 6, 5, 6]
    query = query_of(shards, "text")
    new = [hit for hit in search_index(index, model, query, k=100) if int(hit.where.split()[-1]) > 20]
    names = {"some thing.png", "some thing.mp4", "some thing.off", "deep/some thing.off", "deep/some thing.WAV"}
    assert {hit.source for hit in new} - {"some thing.wav", "deep/the same sound.wav"} == names
    assert all(hit.image and not hit.texts for hit in new)
    again = make_index(model, run, folder, own, add=True)
    assert (again.added, again.present) == (0, 7)


def test_a_folder_without_anything_that_the_model_embeds_is_said(
    model: xmr_e2e.SavedModel, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "notes.pdf").write_text("words")
    with pytest.raises(XmrError, match=r"nor is there a file that the model embeds\. 1 file is not used: 1 \.pdf"):
        make_index(model, run, tmp_path / "things", tmp_path / "index")


def test_the_commands_say_what_each_hit_is(
    run: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    own = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("index", "search")))
    sound = query_of(shards, "audio")
    search_command(own, str(sound), k=16, shards=shards)
    printed = capsys.readouterr().out
    assert "kind" in printed and all(f" {name} " in printed for name in ("image", "text", "video", "shape3d"))
    assert "val0.wav (test)" in printed and "test1.off" in printed and ".wav │" not in printed
    assert len(list((own / "search").glob("*.png"))) == 1
    index_command(own, shards, split=("test",))
    printed = capsys.readouterr().out
    kinds = ("picture", "text", "sound", "video", "shape")
    assert "20 items added" in printed and " and ".join(f"4 to be found by their {kind}" for kind in kinds) in printed
    search_command(own, str(sound), k=3, finds=("shape3d",))
    printed = capsys.readouterr().out
    assert "(index)" in printed and "kind" not in printed and printed.count(".off") == 3


@pytest.mark.parametrize("name", ["gone.wav", "a/gone.MP4", "gone.glb", "gone.pcd"])
def test_a_file_that_does_not_exist_is_named(model: xmr_e2e.SavedModel, name: str) -> None:
    with pytest.raises(XmrError, match=f"{name} does not exist"):
        search(model, name)


def test_a_file_that_cannot_be_decoded_is_named(model: xmr_e2e.SavedModel, tmp_path: Path) -> None:
    for name in ("a.wav", "a.mp4", "a.obj"):
        (tmp_path / name).write_text("words")
        with pytest.raises(XmrError, match=f"{name}: "):
            search(model, tmp_path / name)


def test_a_file_is_what_its_ending_says(tmp_path: Path) -> None:
    for name, modality in {"x.FLAC": "audio", "x.mov": "video", "x.ply": "shape3d"}.items():
        (tmp_path / name).write_bytes(b"")
        found = as_file(str(tmp_path / name))
        assert found is not None and (found.path, found.modality) == (tmp_path / name, modality)
    assert as_file("a dog barks, then wav") is None


@pytest.mark.parametrize("modality", ["audio", "video", "shape3d"])
def test_a_file_is_drawn_as_on_a_contact_sheet(modality: str, shards: Path) -> None:
    path = shards.parent / "raw" / f"train0{ENDINGS[modality]}"
    found = Image.open(io.BytesIO(draw_file(path, modality)))
    expected = draw_media(modality, path.suffix[1:], path.read_bytes(), "here")
    assert found.format == "JPEG" and found.size == expected.size
    difference = np.asarray(found, float) - np.asarray(expected, float)
    assert np.sqrt((difference**2).mean()) < 12  # of the compression
