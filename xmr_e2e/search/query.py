"""A sentence or a media file as query, a split as gallery: what a trained model finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmr_e2e.data.media_files import MediaBounds
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.ranking import nearest
from xmr_e2e.models.given import NOUNS, modality_of
from xmr_e2e.received import read_bytes
from xmr_e2e.search.drawings import draw_file, draw_sample
from xmr_e2e.shards.media import IMAGE_BYTES, UnusableImage
from xmr_e2e.shards.sheet import Tile, tile_picture, write_sheet
from xmr_e2e.similarity import Similarity

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SHEET_COLUMNS = 5
QUERY_MARK = "#0067a3"
HEADING = 300
"""characters of a query that are shown"""


class Dataset(Protocol):
    """The location of a model's gallery, and the largest media that are decoded."""

    @property
    def shards(self) -> Path: ...
    @property
    def media(self) -> MediaBounds: ...


class Method(Protocol):
    """The modalities that a model embeds."""

    @property
    def modalities(self) -> tuple[str, ...]: ...


class Model(Protocol):
    """The interface of a trained model that a search needs; `xmr_e2e.load(run)` gives one."""

    @property
    def data(self) -> Dataset: ...
    @property
    def method(self) -> Method: ...
    @property
    def similarity(self) -> Similarity: ...
    def embed_files(self, modality: str, files: Sequence[Path], /) -> NDArray[np.float32]: ...
    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]: ...
    def embed_split(self, split: str, modality: str, /) -> NDArray[np.float32]: ...
    def unknown_words(self, text: str, /) -> object: ...


@dataclass(frozen=True)
class Hit:
    """One sample that was found."""

    key: str
    source: str
    """the id in the publisher's files"""
    score: float
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    where: str
    """shard and key"""
    image: bytes | None = field(repr=False)
    """as stored in the shard, or drawn of its sound, video or shape; None for a sample that has nothing to be seen"""
    modality: str = ""
    """by which it was found"""


@dataclass(frozen=True)
class MediaFile:
    """A file that is asked with."""

    path: Path
    modality: str


def search(model: Model, query: str | Path, split: str = "test", k: int = 10, finds: Sequence[str] = ()) -> list[Hit]:
    """The k best samples of a split of `model.data.shards`, best first.

    Args:
        query: a sentence, or the path of a picture, a sound, a video or a shape; see `as_file`.
        finds: the modalities by which samples are found, in one ranking; by default all but the query's own. A sample
            is ranked by that of them which is nearest to the query.

    Raises:
        XmrError: an empty query, a file that is missing or cannot be read, no such split, k below 1, a modality that
            the model does not embed, or a split that has none of these.
    """
    embedded, own = embed_query(model, query, k)
    reader = SplitReader(model.data.shards, split)
    wanted = galleries(model, own, finds)
    places = {name: reader.positions_with([name]) for name in wanted}
    ranked: list[tuple[float, str, int]] = []
    for name, positions in places.items():
        if len(positions):
            rows, scores = nearest(embedded[None], model.embed_split(split, name), similarity=model.similarity, k=k)
            ranked += zip(scores[0].tolist(), [name] * k, positions[rows[0].numpy()].tolist())
    if not ranked:
        raise XmrError(f"{reader.folder}: no sample of the split {split!r} has {' or '.join(wanted)}")
    return [_hit(model, reader, position, name, score) for score, name, position in best_of(ranked, k)]


def best_of(ranked: Sequence[tuple[float, str, int]], k: int) -> list[tuple[float, str, int]]:
    """The k best of (score, modality, sample), best first, each sample once. Of equal scores, the first one wins.

    ranked: the k best samples by each modality.
    """
    best: dict[int, tuple[float, str, int]] = {}
    for entry in sorted(ranked, key=lambda entry: -entry[0]):
        best.setdefault(entry[2], entry)
    return list(best.values())[:k]


def galleries(model: Model, own: str, finds: Sequence[str]) -> tuple[str, ...]:
    """The modalities in which a query of a modality searches.

    Raises:
        XmrError: the model has no other, or not one that is asked for.
    """
    modalities = model.method.modalities
    if unknown := [name for name in finds if name not in modalities]:
        raise XmrError(f"--finds {unknown[0]}: this model embeds {', '.join(modalities)}")
    found = tuple(name for name in modalities if (name in finds if finds else name != own))
    if not found:
        raise XmrError(f"a search goes from one modality to others, and this model embeds {own} alone")
    return found


def embed_query(model: Model, query: str | Path, k: int) -> tuple[NDArray[np.float32], str]:
    """The embedding (d,) of a sentence or of the file at a path, and the query's modality.

    Raises:
        XmrError: an empty query, a file that is missing or cannot be read, one of a modality that the model does not
            embed, or k below 1.
    """
    if k < 1:
        raise XmrError(f"the number of hits must be at least 1, not {k}")
    file = as_file(query)
    if not file and not str(query).strip():
        raise XmrError("the query is empty; give a sentence or the path of a file")
    modality = file.modality if file else "text"
    modalities = model.method.modalities
    if modality not in modalities:
        asked = f"a {NOUNS[modality]}" if file else "a sentence"
        raise XmrError(f"{asked} cannot be asked with: this model embeds {', '.join(modalities)}")
    if file:
        return model.embed_files(file.modality, [file.path])[0], modality
    return model.embed_texts([str(query)])[0], modality


def remark_on(model: Model, query: str | Path) -> str:
    """A remark for a person on the query's words; empty where the model knows all, and for a file."""
    return "" if as_file(query) else str(model.unknown_words(str(query)))


def as_file(query: str | Path) -> MediaFile | None:
    """The picture, sound, video or shape that a query names; None for a sentence.

    A string is a path when it ends as such files' names do, or when a file of that name exists. A file of another
    ending is taken for a picture.

    Raises:
        XmrError: the file does not exist, is a folder, or is no picture that can be decoded.
    """
    path = Path(query)
    modality = modality_of(path)
    if not isinstance(query, Path) and not modality and not _is_file(path):
        return None
    if not _is_file(path):
        raise XmrError(f"{path} does not exist or is no file; a query is a sentence or the path of a picture, a sound, "
                       "a video or a shape")  # fmt: skip
    if modality in (None, "image"):
        _small(_read(path), str(path))
    return MediaFile(path, modality or "image")


def save_sheet(out: Path, query: str | Path, hits: Sequence[Hit], remark: str = "") -> None:
    """Draw the hits as a contact sheet, after the query's own file if it is one; the remark stands in its heading.

    Raises:
        XmrError: the name has another suffix than SHEET_SUFFIXES, it cannot be written, or a picture cannot be decoded.
    """
    if out.suffix.lower() not in SHEET_SUFFIXES:
        raise XmrError(f"{out}: the name must end in {', '.join(SHEET_SUFFIXES[:-1])} or {SHEET_SUFFIXES[-1]}")
    file = as_file(query)
    several = len({hit.modality for hit in hits}) > 1
    tiles = [_tile(rank, hit, hit.modality if several else "") for rank, hit in enumerate(hits, start=1)]
    if file:
        content = _read(file.path) if file.modality == "image" else draw_file(file.path, file.modality)
        tiles.insert(0, Tile(_small(content, str(file.path), QUERY_MARK), "query", file.path.name, mark=QUERY_MARK))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        heading = "\n".join(filter(None, (shorten(str(query), HEADING), remark)))
        write_sheet(out, tiles, columns=SHEET_COLUMNS, heading=heading)
    except OSError as error:
        raise XmrError(
            f"{out} cannot be written: {error.strerror or error}; --sheet FILE draws it elsewhere"
        ) from error


def _hit(model: Model, reader: SplitReader, position: int, modality: str, score: float) -> Hit:
    record = reader.read(position)
    about = record.metadata
    picture = record.image or draw_sample(reader, position, model.method.modalities, model.data.media)
    return Hit(record.key, about.source, score, about.texts, about.labels, record.where, picture, modality)


def _tile(rank: int, hit: Hit, kind: str) -> Tile:
    title = " · ".join([str(rank), score_text(hit.score), *filter(None, [kind]), *hit.labels])
    picture = _small(hit.image, hit.where) if hit.image is not None else f"no picture: {hit.source or hit.key}"
    return Tile(picture, title, "\n".join(hit.texts))


def score_text(score: float) -> str:
    return f"{score:.3f}"


def shorten(text: str, width: int) -> str:
    """On one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, most=IMAGE_BYTES)
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror}") from error


def _small(data: bytes, where: str, mark: str | None = None) -> Image.Image:
    """A picture as a tile shows it."""
    try:
        return tile_picture(data, mark=mark)
    except UnusableImage as error:
        raise XmrError(f"{where}: {error}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a sentence can be too long for a file name
        return False
