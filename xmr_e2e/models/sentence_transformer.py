"""A saved model as a module of sentence-transformers, for texts and pictures.

`SentenceTransformer(FOLDER, trust_remote_code=True)` finds it by the folder's `modules.json`. What is trusted with that
is the folder: the file could name any class. `as_sentence_transformer` trusts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modality import infer_batch_modality
from sentence_transformers.base.modules import InputModule
from sentence_transformers.util import cos_sim, pairwise_cos_sim
from torch import Tensor

from xmr_e2e.data.inputs import Tokens
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.errors import XmrError
from xmr_e2e.models.given import PICTURES, as_items, load_images
from xmr_e2e.models.hub import download
from xmr_e2e.models.saved_model import SavedModel, load_folder
from xmr_e2e.models.sentence_transformer_files import SHARED, encoded_modalities

logger = logging.getLogger(__name__)


def as_sentence_transformer(model: SavedModel) -> SentenceTransformer:
    """The model for sentence-transformers and what builds on it, such as MTEB.

    Raises:
        XmrError: it embeds neither texts nor pictures.
    """
    similarity: Any = model.similarity if model.similarity in SHARED else None
    device = str(model.method.device)
    return SentenceTransformer(modules=[CrossModalEncoder(model)], similarity_fn_name=similarity, device=device)


class CrossModalEncoder(InputModule):
    """Texts, and pictures as PIL images or paths, to embeddings in the common space: the same as `SavedModel` gives.

    Of strings, those are pictures that name a file here with the ending of one.
    """

    def __init__(self, model: SavedModel) -> None:
        super().__init__()
        if not encoded_modalities(model):
            raise XmrError(
                "sentence-transformers gets texts and pictures, and this model reads "
                + ", ".join(f"{name} as {kind}" for name, kind in model.method.input_kinds.items())
            )
        self.model = model
        self.method = model.method

    @classmethod
    def load(  # type: ignore[override]
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> CrossModalEncoder:
        """The module of an exported model, in a folder or on the hub.

        Raises:
            XmrError: no model there.
        """
        folder = Path(model_name_or_path)
        if not folder.is_dir():
            asked: dict[str, Any] = {"token": token, "cache_dir": cache_folder, "local_files_only": local_files_only}
            folder = download(model_name_or_path, revision, **asked)
        return cls(load_folder(folder))

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Write the exported model again, with the weights as they are now."""
        self.model.save_pretrained(output_path)

    @property
    def modalities(self) -> list[Any]:
        return encoded_modalities(self.model)

    @property
    def max_seq_length(self) -> int:
        """Tokens of a text that are read."""
        return self.model.data.max_tokens

    def get_embedding_dimension(self) -> int:
        """The width of the common space."""
        if "text" in self.modalities:
            return int(self.model.embed_texts("").shape[1])
        return int(self.model.embed_images(Image.new("RGB", (1, 1))).shape[1])

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **options: Any) -> dict[str, Any]:
        """Texts as `ids` and `lengths`, or pictures as `pixels`, all of a batch of one modality.

        Raises:
            XmrError: a picture that is missing or none; names it.
        """
        items = [_unwrapped(item) for item in inputs]
        if infer_batch_modality(items, supported_modalities=self.modalities) == "text":
            return self.model.load_texts([(prompt or "") + text for text in items])._asdict()
        return {"pixels": load_images(as_items(items, PICTURES, "pictures are paths or PIL images"), self.model.data)}

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Add `sentence_embedding` (n, d)."""
        if "pixels" in features:
            prepared = Preparation(self.model.data.image_size).for_evaluation(features["pixels"])
            found = self.method.embed("image", prepared)
        else:
            found = self.method.embed("text", Tokens(features["ids"], features["lengths"]))
        return {**features, "sentence_embedding": found.float()}

    def on_model_ready(self, model: Any) -> None:
        """Give a model that is compared by Pearson's correlation its `similarity`, which the library does not have."""
        if self.model.similarity in SHARED:
            return
        model.similarity, model.similarity_pairwise = pearson_similarity, pairwise_pearson_similarity
        logger.warning(
            "the embeddings of this model are compared by Pearson's correlation: its similarity() does so, but what "
            "asks for similarity_fn_name gets cosine, for which each embedding has to be given without its mean"
        )


def pearson_similarity(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> Tensor:
    """Pearson's correlation of each row of x with each row of y: (n, d) and (m, d) -> (n, m)."""
    return cos_sim(_centered(x), _centered(y))


def pairwise_pearson_similarity(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> Tensor:
    """Pearson's correlation of each row of x with that of y: (n, d) and (n, d) -> (n,)."""
    return pairwise_cos_sim(_centered(x), _centered(y))


def _centered(rows: Tensor | np.ndarray) -> Tensor:
    given = torch.as_tensor(rows)
    return given - given.mean(-1, keepdim=True)


def _unwrapped(item: Any) -> Any:
    """The item of {modality: item}, as MTEB gives it; a path as a string."""
    if isinstance(item, dict) and len(item) == 1:
        (item,) = item.values()
    return str(item) if isinstance(item, Path) else item
