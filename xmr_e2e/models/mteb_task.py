"""A split of shards as a retrieval task of MTEB, and a model as MTEB takes it.

`mteb.evaluate(mteb_encoder(model), retrieval_task(model.data))`. MTEB holds what is relevant to each query as objects
of Python: with relevance by label, splits of a few thousand samples fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SentenceTransformerEncoderWrapper

from xmr_e2e.data.config import Data
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.files import sha256_of
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.models.sentence_transformer import as_sentence_transformer
from xmr_e2e.shards import manifest


def mteb_encoder(model: SavedModel) -> SentenceTransformerEncoderWrapper:
    """The model for `mteb.evaluate`, under a name and a revision of its own, by which MTEB keeps results.

    Raises:
        XmrError: it embeds neither texts nor pictures.
    """
    encoder = SentenceTransformerEncoderWrapper(as_sentence_transformer(model))
    about = {
        "name": f"xmr_e2e/{model.config.title.replace(' ', '-')}",
        "revision": model.fingerprint,
        "modalities": sorted(encoder.model.modalities),  # MTEB takes a model that it does not know for one of texts
    }
    encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(update=about)
    return encoder


def retrieval_task(
    data: Data,
    split: str = "test",
    *,
    query: Literal["image", "text"] = "image",
    relevant: Literal["label", "pair"] = "label",
    language: str = "eng-Latn",
) -> AbsTaskRetrieval:
    """Pictures that find texts, or texts that find pictures, in one split; what the task reads is read when it is run.

    `map_at_500` and `ndcg_at_500` with relevance by label are mAP@all and NDCG@500 of `xmr eval` up to 500 samples;
    `recall_at_10` with relevance by pair is its R@10.

    Args:
        data: its shards, and whether a sample's texts are one.
        query: the modality that asks; the other one is found.
        relevant: what shares a class label, counted by how many; or what belongs to the same sample.
        language: of the texts, as MTEB writes it.

    Raises:
        XmrError: no such shards or split.
    """
    found = "text" if query == "image" else "image"
    reader = SplitReader(data.shards, split)
    metadata = _describe(reader, f"{query[0]}2{found[0]}", relevant, language)
    kind = type("ShardsRetrieval", (_ShardsRetrieval,), {"metadata": metadata})  # where MTEB looks for it
    task: AbsTaskRetrieval = kind(reader, data.texts, query, found, relevant)
    return task


class _ShardsRetrieval(AbsTaskRetrieval):
    """A split, as MTEB asks for it. `retrieval_task` makes one."""

    k_values = (1, 5, 10, 50, 500)

    def __init__(self, reader: SplitReader, texts: str, query: str, found: str, relevant: str) -> None:
        self.reader, self.texts = reader, texts
        self.query, self.found, self.relevant = query, found, relevant
        super().__init__()

    def load_data(self, num_proc: int | None = None, **options: Any) -> None:
        """Read the split."""
        split = {"queries": self._items(self.query), "corpus": self._items(self.found)}
        split |= {"relevant_docs": dict(self._relevances()), "top_ranked": None}
        self.dataset = {"default": {self.reader.split: split}}  # type: ignore[dict-item]
        self.data_loaded = True

    def _items(self, modality: str) -> Dataset:
        positions = self.reader.positions_with((modality,)).tolist()
        content = [self._text(each) if modality == "text" else self._picture(each) for each in positions]
        features = Features({"id": Value("string"), modality: Value("string") if modality == "text" else ImageColumn()})
        return Dataset.from_dict({"id": [*map(str, positions)], modality: content}, features=features)

    def _text(self, position: int) -> str:
        texts = self.reader.metadata(position).texts
        return " ".join(texts if self.texts == "concatenate" else texts[:1])

    def _picture(self, position: int) -> dict[str, Any]:
        """A file's bytes, which are decoded and turned upright when they are asked for."""
        return {"bytes": self.reader.image(position), "path": None}

    def _relevances(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Of each query, the items that are relevant and how much."""
        by_label: dict[int, list[str]] = {}
        for position in self.reader.positions_with((self.found,)).tolist():
            for label in self.reader.labels(position):
                by_label.setdefault(label, []).append(str(position))
        for query in self.reader.positions_with((self.query,)).tolist():
            shared = Counter(each for label in self.reader.labels(query) for each in by_label.get(label, ()))
            yield str(query), dict(shared) if self.relevant == "label" else {str(query): 1}


def _describe(reader: SplitReader, category: Any, relevant: str, language: str) -> TaskMetadata:
    dataset, split = reader.manifest.dataset, reader.split
    return TaskMetadata(
        name=f"{dataset}-{split}-{category}-{relevant}",
        description=f"{category} in the {split} split of {dataset}; relevant by {relevant}",
        type="Any2AnyRetrieval",
        category=category,
        modalities=["image", "text"],
        eval_splits=[split],
        eval_langs=[language],
        main_score="ndcg_at_10",
        dataset={"path": dataset, "revision": sha256_of(reader.folder / manifest.NAME)},
    )
