"""A sentence or a picture as query, a split as gallery: what a trained model finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.ranking import nearest
from xmr_e2e.received import read_bytes
from xmr_e2e.shards.media import IMAGE_BYTES, UnusableImage
from xmr_e2e.shards.schema import IMAGE_SUFFIXES
from xmr_e2e.shards.sheet import Tile, tile_picture, write_sheet
from xmr_e2e.similarity import Similarity

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SHEET_COLUMNS = 5
QUERY_MARK = "#0067a3"
HEADING = 300
"""characters of a query that are shown"""


class Dataset(Protocol):
    """The location of a model's gallery."""

    @property
    def shards(self) -> Path: ...


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
    def embed_images(self, images: Sequence[Path], /) -> NDArray[np.float32]: ...
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
    """as stored in the shard; None for a sample without a picture"""


def search(model: Model, query: str | Path, split: str = "test", k: int = 10) -> list[Hit]:
    """The k best samples of a split of `model.data.shards`, best first.

    query: a sentence ranks the split's images, a picture's path ranks its texts; see `as_picture`.

    Raises:
        XmrError: an empty query, a picture that is missing or cannot be read, no such split, k below 1, or a model
            that does not embed both images and texts.
    """
    require_searchable(model)
    embedded, gallery = embed_query(model, query, k)
    reader = SplitReader(model.data.shards, split)
    items = model.embed_split(split, gallery)
    rows, scores = nearest(embedded[None], items, similarity=model.similarity, k=k)
    positions = reader.positions_with([gallery])[rows[0].numpy()].tolist()
    return [_hit(reader, position, score) for position, score in zip(positions, scores[0].tolist())]


def require_searchable(model: Model) -> None:
    """Raise XmrError for a model that does not embed both images and texts."""
    modalities = model.method.modalities
    if not {"image", "text"} <= set(modalities):
        raise XmrError(f"a search goes from texts to images or back, and this model embeds {' and '.join(modalities)}")


def embed_query(model: Model, query: str | Path, k: int) -> tuple[NDArray[np.float32], str]:
    """The embedding (d,) of a sentence or of the picture at a path, and the modality of what it is to find.

    Raises:
        XmrError: an empty query, a picture that is missing or cannot be read, or k below 1.
    """
    if k < 1:
        raise XmrError(f"the number of hits must be at least 1, not {k}")
    picture = as_picture(query)
    if picture:
        return model.embed_images([picture])[0], "text"
    if not str(query).strip():
        raise XmrError("the query is empty; give a sentence or the path of a picture")
    return model.embed_texts([str(query)])[0], "image"


def remark_on(model: Model, query: str | Path) -> str:
    """A remark for a person on the query's words; empty where the model knows all, and for a picture."""
    return "" if as_picture(query) else str(model.unknown_words(str(query)))


def as_picture(query: str | Path) -> Path | None:
    """The picture that a query names; None for a sentence.

    A string is a path when it ends as pictures' names do, or when a file of that name exists.

    Raises:
        XmrError: the file does not exist, is a folder, or cannot be decoded.
    """
    path = Path(query)
    named_as_picture = isinstance(query, Path) or path.suffix.lower() in IMAGE_SUFFIXES
    if not named_as_picture and not _is_file(path):
        return None
    if not _is_file(path):
        raise XmrError(f"{path} does not exist or is no file; a query is a sentence or the path of a picture")
    _small(_read(path), str(path))
    return path


def save_sheet(out: Path, query: str | Path, hits: Sequence[Hit], remark: str = "") -> None:
    """Draw the hits as a contact sheet, after the query's own picture if it has one; the remark stands in its heading.

    Raises:
        XmrError: the name has another suffix than SHEET_SUFFIXES, it cannot be written, or a picture cannot be decoded.
    """
    if out.suffix.lower() not in SHEET_SUFFIXES:
        raise XmrError(f"{out}: the name must end in {', '.join(SHEET_SUFFIXES[:-1])} or {SHEET_SUFFIXES[-1]}")
    picture = as_picture(query)
    tiles = [_tile(rank, hit) for rank, hit in enumerate(hits, start=1)]
    if picture:
        tiles.insert(0, Tile(_small(_read(picture), str(picture), QUERY_MARK), "query", picture.name, mark=QUERY_MARK))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        heading = "\n".join(filter(None, (shorten(str(query), HEADING), remark)))
        write_sheet(out, tiles, columns=SHEET_COLUMNS, heading=heading)
    except OSError as error:
        raise XmrError(
            f"{out} cannot be written: {error.strerror or error}; --sheet FILE draws it elsewhere"
        ) from error


def _hit(reader: SplitReader, position: int, score: float) -> Hit:
    record = reader.read(position)
    about = record.metadata
    return Hit(record.key, about.source, score, about.texts, about.labels, record.where, record.image)


def _tile(rank: int, hit: Hit) -> Tile:
    title = " · ".join([str(rank), score_text(hit.score), *hit.labels])
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
