"""An index that can be searched: a folder with one file, made by `xmr_e2e.search.indexing`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line, shell
from xmr_e2e.evaluation.ranking import nearest
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.search.query import Hit, best_of, embed_query, galleries
from xmr_e2e.search.store import NAME, Item, Store
from xmr_e2e.search.vectors import Neighbors
from xmr_e2e.shards.schema import MODALITIES

DEFAULT = "index"
"""the folder of a run's index within the run"""

logger = logging.getLogger(__name__)


class Index:
    """An index, open to be searched. What is added to it meanwhile is seen by those who open it then.

    Raises:
        XmrError: no index there, or one that this version cannot read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / NAME)
        about = self.store.about
        self.run = Path(about.run)
        """the folder of the model, when the index was made: a word of whoever made it, not to be opened for that"""
        self.fingerprint = about.fingerprint
        self._numbers: dict[str, NDArray[np.int64]] = {}
        self._neighbors: dict[str, Neighbors] = {}
        for name in MODALITIES:
            self._numbers[name], embeddings = self.store.embeddings(name)
            if len(embeddings):
                self._neighbors[name] = Neighbors.of(
                    embeddings,
                    about.similarity,
                    graph=self.store.graph(name),
                    flat_up_to=len(embeddings),  # a large index brings its graph
                    where=f"{self.store.path}: {name}s",
                )
        if self.store.has_older_graph:
            logger.warning(
                "%s is of an older version, whose graph for approximate search is not read: each search compares all "
                "items, which is exact and takes longer. `xmr index RUN SHARDS --add --out %s` stores a graph again",
                self.store.path, shell(folder),
            )  # fmt: skip

    def __len__(self) -> int:
        return sum(count for *_, count in self.store.collections())

    def numbers(self, modality: str) -> NDArray[np.int64]:
        """Ascending, of the items that can be found by this modality."""
        return self._numbers[modality]

    @property
    def is_approximate(self) -> bool:
        return any(neighbors.is_approximate for neighbors in self._neighbors.values())

    def nearest(self, query: NDArray[np.float32], modality: str, k: int) -> list[tuple[int, float]]:
        """The numbers and scores of the k items nearest to a query (d,), best first, in the order of the evaluation."""
        if modality not in self._neighbors:
            raise XmrError(f"{self.folder}: none of the items has an embedding by its {modality}; nothing can be found")
        neighbors = self._neighbors[modality]
        if len(query) != neighbors.width:
            raise XmrError(
                f"{self.folder}: its embeddings have {neighbors.width} numbers and the model's {len(query)}; make it "
                "again with --overwrite"
            )
        numbers = self._numbers[modality][neighbors.candidates(query, k)]
        embeddings = self.store.embeddings_of(modality, numbers.tolist())
        rows, scores = nearest(query[None], embeddings, similarity=neighbors.similarity, k=k)
        return list(zip(numbers[rows[0].numpy()].tolist(), scores[0].tolist()))

    def best(self, query: NDArray[np.float32], modalities: Sequence[str], k: int) -> list[tuple[int, str, float]]:
        """The k items nearest to a query (d,) by any of these modalities, best first: number, modality and score.

        Raises:
            XmrError: no item has one of the modalities, or as `nearest`.
        """
        held = [name for name in modalities if name in self._neighbors]
        if not held:
            words = " or ".join(modalities)
            raise XmrError(f"{self.folder}: none of the items has an embedding by its {words}; nothing can be found")
        ranked = [(score, name, number) for name in held for number, score in self.nearest(query, name, k)]
        return [(number, name, score) for score, name, number in best_of(ranked, k)]

    def hit(self, number: int, item: Item, score: float, modality: str = "") -> Hit:
        """An item as it is shown; its picture is the thumbnail."""
        where = f"{self.store.path}: item {number}"
        return Hit(
            item.key,
            item.source,
            score,
            item.texts,
            item.labels,
            where,
            self.store.pictures.thumbnail(number),
            modality,
        )


def require_same_model(index: Index, model: SavedModel) -> None:
    """Raise XmrError if the index holds another model's embeddings."""
    if index.fingerprint != model.fingerprint:
        raise XmrError(
            f"{index.folder} was made with another model (the one that {one_line(str(index.run))} held then), whose "
            "embeddings mean nothing to this one; make it again: xmr index RUN SHARDS --overwrite"
        )


def search_index(
    index: Index, model: SavedModel, query: str | Path, k: int = 10, finds: Sequence[str] = ()
) -> list[Hit]:
    """The k best items of an index, best first, for a sentence or the path of a file.

    finds: the modalities by which items are found, in one ranking; by default all but the query's own.

    Raises:
        XmrError: as `query.search`, or an index of another model.
    """
    require_same_model(index, model)
    embedded, own = embed_query(model, query, k)
    found = index.best(embedded, galleries(model, own, finds), k)
    items = index.store.items([number for number, *_ in found])
    return [index.hit(number, item, score, name) for (number, name, score), item in zip(found, items)]


def find_index(run: Path, folder: Path | None) -> Index | None:
    """The index that is asked for, or else the run's own; None for a run that has none.

    Raises:
        XmrError: no index where one is asked for.
    """
    if folder is None and not (run / DEFAULT / NAME).is_file():
        return None
    return Index(folder or run / DEFAULT)
