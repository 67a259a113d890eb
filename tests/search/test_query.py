"""A sentence finds images, a photo finds texts, and what cannot be searched is said."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import xmr_e2e.models.saved_model
import xmr_e2e.search.query
from xmr_e2e.data.media_files import DEFAULT_BOUNDS, MediaBounds
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.search.command import hits_table, search_command
from xmr_e2e.search.query import Hit, as_file, best_of, save_sheet, search
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.similarity import Similarity

COLOUR_OF = {"apple": (200, 40, 40), "leaf": (40, 170, 60), "sea": (40, 80, 200), "sun": (235, 200, 50)}


@dataclass(frozen=True)
class Folder:
    shards: Path
    media: MediaBounds = DEFAULT_BOUNDS


@dataclass(frozen=True)
class Embeds:
    modalities: tuple[str, ...]


class ColourModel:
    """Images by their mean colour, texts by the mean colour of the things that they name."""

    similarity: Similarity = "euclidean"

    def __init__(self, shards: Path, modalities: tuple[str, ...] = ("image", "text")) -> None:
        self.data = Folder(shards)
        self.method = Embeds(modalities)

    def embed_images(self, images: Sequence[Path | bytes]) -> np.ndarray:
        streams = [io.BytesIO(image) if isinstance(image, bytes) else image for image in images]
        return np.array([np.asarray(Image.open(stream)).mean((0, 1)) for stream in streams], np.float32)

    def embed_files(self, modality: str, files: Sequence[Path]) -> np.ndarray:
        assert modality == "image"
        return self.embed_images(files)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        named = [[color for name, color in COLOUR_OF.items() if name in text] for text in texts]
        return np.array([np.mean(colors, 0) for colors in named], np.float32)

    def unknown_words(self, text: str) -> str:
        return "" if any(name in text for name in COLOUR_OF) else "no word of the query is known"

    def embed_split(self, split: str, modality: str) -> np.ndarray:
        reader = SplitReader(self.data.shards, split)
        records = [reader.read(position) for position in reader.positions_with([modality]).tolist()]
        if modality == "image":
            return self.embed_images([record.image for record in records if record.image])
        return self.embed_texts([" ".join(record.metadata.texts) for record in records])


@pytest.fixture
def model(tiny_shards: Path) -> ColourModel:
    return ColourModel(tiny_shards)


@pytest.fixture
def photo(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    return make_image(tmp_path / "Ein Foto [rot], grün.png", color=COLOUR_OF["leaf"], seed=99)


def test_a_sentence_ranks_the_images_by_score(model: ColourModel) -> None:
    hits = search(model, "the sea at noon", "test", k=5)
    images = model.embed_split("test", "image")
    distances = sorted(float(np.linalg.norm(image - COLOUR_OF["sea"])) for image in images)
    assert [hit.labels for hit in hits[:3]] == [("sea",)] * 3  # the test split has three of each class
    assert [-hit.score for hit in hits] == pytest.approx(distances[:5], rel=1e-5)


def test_a_photo_ranks_the_texts(model: ColourModel, photo: Path) -> None:
    for query in (photo, str(photo)):
        hits = search(model, query, "val", k=3)
        assert [hit.labels for hit in hits] == [("leaf",)] * 3
        assert all("leaf" in text for hit in hits for text in hit.texts)


def test_a_hit_says_what_it_is_and_where_it_lies(model: ColourModel) -> None:
    hit = search(model, "sun", "test", k=1)[0]
    reader = SplitReader(model.data.shards, "test")
    record = next(reader.read(i) for i in range(len(reader)) if reader.key(i) == hit.key)
    assert (hit.source, hit.texts, hit.labels) == (
        record.metadata.source,
        record.metadata.texts,
        record.metadata.labels,
    )
    assert (hit.where, hit.image) == (record.where, record.image)
    assert str(model.data.shards) in hit.where


@pytest.fixture
def mixed(tmp_path: Path, make_image: Callable[..., Path]) -> Path:
    """Pictures without text, texts without picture, and sounds, in four colours."""
    samples = []
    for number, (name, color) in enumerate(COLOUR_OF.items()):
        image = make_image(tmp_path / f"{name}.jpg", color=color, seed=number)
        samples.append(RawSample(f"picture of {name}", "test", image, labels=(name,)))
        samples.append(RawSample(f"text on {name}", "test", texts=(f"an article on {name}",), labels=(name,)))
        samples.append(RawSample(f"{name} sounds", "test", labels=(name,), features={"audio": np.ones(3, np.float32)}))
    options = BuildOptions(shard_samples=5, workers=1)
    folder = tmp_path / "mixed"
    build_shards(folder, dataset="mixed", classes=list(COLOUR_OF), samples=samples, required=(), options=options)
    return folder


def test_only_samples_that_have_the_modality_are_searched(mixed: Path, photo: Path, tmp_path: Path) -> None:
    model = ColourModel(mixed, ("image", "text", "audio"))
    pictures = search(model, "the sea at noon", k=10, finds=["image"])
    assert pictures[0].source == "picture of sea"
    assert len(pictures) == 4 and all(hit.source.startswith("picture of") and hit.image for hit in pictures)
    texts = search(model, photo, k=10, finds=["text"])
    assert texts[0].source == "text on leaf"
    assert len(texts) == 4 and all(hit.source.startswith("text on") and hit.image is None for hit in texts)
    save_sheet(tmp_path / "sheet.png", photo, texts)  # with words where a hit has no picture
    assert Image.open(tmp_path / "sheet.png").width > 0


@pytest.mark.parametrize("modalities", [("image", "video"), ("audio", "shape3d")])
def test_a_model_that_does_not_embed_the_query_says_what_it_embeds(mixed: Path, modalities: tuple[str, ...]) -> None:
    with pytest.raises(XmrError, match=f"a sentence cannot be asked with: this model embeds {', '.join(modalities)}"):
        search(ColourModel(mixed, modalities), "the sea")


def test_what_is_asked_for_and_not_there_is_said(mixed: Path) -> None:
    model = ColourModel(mixed, ("image", "text", "video"))
    with pytest.raises(XmrError, match="--finds audio: this model embeds image, text, video"):
        search(model, "the sea", finds=["image", "audio"])
    with pytest.raises(XmrError, match="no sample of the split 'test' has video"):
        search(model, "the sea", finds=["video"])
    with pytest.raises(XmrError, match="this model embeds text alone"):
        search(ColourModel(mixed, ("text",)), "the sea")


def test_a_sample_is_ranked_by_the_nearest_of_what_it_has() -> None:
    ranked = [(0.9, "image", 3), (0.5, "image", 1), (0.7, "audio", 1), (0.7, "audio", 4), (0.2, "audio", 3)]
    assert best_of(ranked, 5) == [(0.9, "image", 3), (0.7, "audio", 1), (0.7, "audio", 4)]
    assert best_of(ranked, 2) == [(0.9, "image", 3), (0.7, "audio", 1)]


def test_more_hits_than_samples_are_all_samples(model: ColourModel) -> None:
    assert len({hit.key for hit in search(model, "sun", "test", k=1000)}) == 12


def test_the_sheet_shows_the_hits_and_the_photo_that_asked(model: ColourModel, photo: Path, tmp_path: Path) -> None:
    sheets: dict[str | Path, Image.Image] = {}
    for query in ("a leaf", photo):
        out = tmp_path / "new folder" / "sheet.png"
        save_sheet(out, query, search(model, query, "test", k=2))
        assert Image.open(out).format == "PNG"
        sheets[query] = Image.open(out).convert("RGB")
    # as many tiles in a row as there are pictures: two hits, and two hits with the query
    assert sheets[photo].width > sheets["a leaf"].width
    close = np.abs(np.asarray(sheets["a leaf"], int) - COLOUR_OF["leaf"]).max(-1) < 12
    assert close.mean() > 0.1


@pytest.mark.parametrize("query", ["missing.jpg", "some folder/photo.PNG", Path("a dog")])
def test_a_picture_that_does_not_exist_is_named(model: ColourModel, query: str | Path) -> None:
    with pytest.raises(XmrError, match=f"{query} does not exist"):
        search(model, query)


def test_a_file_that_is_no_picture_is_named(model: ColourModel, tmp_path: Path) -> None:
    for name, content in {"text.jpg": b"no picture", "empty.png": b"", "notes": b"words"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(XmrError, match=f"{name}: .*(not an image|empty)"):
            search(model, str(tmp_path / name))


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_refused(model: ColourModel, query: str) -> None:
    with pytest.raises(XmrError, match="the query is empty"):
        search(model, query)


@pytest.mark.parametrize("query", ["a dog in the snow.", "either/or", "x" * 5000, "a nul \0 within", "犬", "."])
def test_anything_else_is_a_sentence(query: str) -> None:
    assert as_file(query) is None


def test_an_unknown_split_and_a_senseless_number_are_refused(model: ColourModel) -> None:
    with pytest.raises(XmrError, match="no split 'dev'; it has train, val, test"):
        search(model, "sun", "dev")
    with pytest.raises(XmrError, match="at least 1"):
        search(model, "sun", k=0)


def test_a_sheet_of_another_kind_is_refused(model: ColourModel, tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"hits\.txt: the name must end in"):
        save_sheet(tmp_path / "hits.txt", "sun", search(model, "sun", k=1))


def test_a_caption_in_square_brackets_stays_as_it_is(model: ColourModel) -> None:
    hit = search(model, "sun", k=1)[0]
    strange = type(hit)(hit.key, "", 0.5, ("[red]a [/] caption", "second"), ("[b]",), hit.where, hit.image)
    out = Console(file=io.StringIO(), width=200)
    out.print(hits_table([strange], title="[x]"))
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert all(words in shown for words in ("[red]a [/] caption (+1)", "[b]", "[x]", hit.key, "0.500"))


def test_the_command_prints_the_hits_and_draws_them_into_the_run(
    model: ColourModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(xmr_e2e.models.saved_model, "load", lambda run, shards: model)
    monkeypatch.setenv("COLUMNS", "200")
    search_command(tmp_path, "the sea, at noon", split="val", k=2)
    shown = capsys.readouterr().out
    sheet = tmp_path / "search" / "the_sea_at_noon-val.png"
    assert sheet.is_file()
    assert str(sheet) in shown
    assert shown.count("here is one more sea") + shown.count("a picture of sea") == 2


def test_a_query_without_a_known_word_is_said_on_console_and_sheet(
    model: ColourModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(xmr_e2e.models.saved_model, "load", lambda run, shards: model)
    monkeypatch.setattr(model, "embed_texts", lambda texts: np.ones((len(texts), 3), np.float32))
    for query, said in (("zzz qqq 犬", 1), ("the sea", 0), ("x " * 3000, 1), ("\0", 1), ("🦊 שלום", 1)):
        search_command(tmp_path, query, k=1, sheet=tmp_path / f"{said}.png")
        shown = capsys.readouterr().out
        assert shown.count("no word of the query is known") == said
        assert len(shown) < 1500
    # the heading of the sheet has one line more
    assert Image.open(tmp_path / "1.png").height > Image.open(tmp_path / "0.png").height


def test_long_texts_are_one_line_unless_all_is_asked_for(
    model: ColourModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    article = "the sea " * 500 + "\nits end"
    monkeypatch.setattr(xmr_e2e.models.saved_model, "load", lambda run, shards: model)
    hit = Hit("key", "some/source.jpg", 0.5, (article, "second text"), ("sea",), "where", None)
    monkeypatch.setattr(xmr_e2e.search.query, "search", lambda *arguments: [hit])
    for width in ("80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        search_command(tmp_path, "the sea")
        shown = capsys.readouterr().out
        lines = [line for line in shown.splitlines() if "the sea the sea" in line]
        assert len(lines) == 1 and "… (+1)" in lines[0] and "its end" not in shown
        assert f"xmr index {tmp_path} {model.data.shards}" in shown
    search_command(tmp_path, "the sea", full=True)
    shown = capsys.readouterr().out
    assert shown.count("the") > 500 and "its end" in shown and "second text" in shown


def test_shards_that_were_moved_are_asked_for(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_shards, moved)
    load = {None: ColourModel(tmp_path / "gone"), moved: ColourModel(moved)}
    monkeypatch.setattr(xmr_e2e.models.saved_model, "load", lambda run, shards: load[shards])
    with pytest.raises(XmrError, match=r"gone: no such folder; .* --shards"):
        search_command(tmp_path, "sun")
    search_command(tmp_path, "sun", shards=moved, sheet=tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()
