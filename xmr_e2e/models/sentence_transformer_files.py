"""The files by which sentence-transformers loads an exported model: which class reads it, and how it is compared."""

from __future__ import annotations

from typing import Any, Protocol

from xmr_e2e.data.inputs import InputKind
from xmr_e2e.methods.base import Method
from xmr_e2e.similarity import Similarity

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
ENCODER = "xmr_e2e.models.sentence_transformer.CrossModalEncoder"
SHARED: tuple[Similarity, ...] = ("cosine", "dot", "euclidean")
"""similarities that sentence-transformers has, too, by these names"""
READS: dict[str, InputKind] = {"text": "tokens", "image": "pixels"}
"""modality -> what a tower reads of it where texts and pictures themselves can be given"""


class EncodingModel(Protocol):
    """The properties of a saved model that these files tell."""

    method: Method

    @property
    def similarity(self) -> Similarity: ...


def encoded_modalities(model: EncodingModel) -> list[str]:
    """The modalities that it embeds there; none of a model of features alone."""
    return [name for name, kind in READS.items() if model.method.input_kinds.get(name) == kind]


def sentence_transformer_files(model: EncodingModel) -> dict[str, Any]:
    """Name -> JSON document, as sentence-transformers' documentation of custom modules has them."""
    if not encoded_modalities(model):
        return {}
    settings: dict[str, Any] = {"model_type": "SentenceTransformer"}
    if model.similarity in SHARED:
        settings["similarity_fn_name"] = model.similarity
    return {MODULES: [{"idx": 0, "name": "0", "path": "", "type": ENCODER}], SETTINGS: settings}
