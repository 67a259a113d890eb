"""A trained model that stands on its own: `model.safetensors` and `model.json`, without the recipe that made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.augment import prepare_evaluation
from xmr_e2e.data.batch import Source, Tokens
from xmr_e2e.data.images import centre_square, load_square
from xmr_e2e.data.loader import Data
from xmr_e2e.data.text import pad
from xmr_e2e.data.tokenisers import Tokeniser, tokeniser_from_document
from xmr_e2e.engine.embed import embed_modality
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.methods.base import Method, MethodConfig, Similarity, without_weights
from xmr_e2e.shards.media import upright_rgb
from xmr_e2e.towers.base import Dataset

BATCH = 64


class SavedModel:
    """A trained model, ready to embed pictures and texts. `xmr_e2e.load(run)` makes it."""

    def __init__(
        self,
        config: MethodConfig,
        data: Data,
        classes: Sequence[str],
        multi_label: bool,
        tokeniser: Tokeniser | None,
        widths: Mapping[str, int],
        method: Method,
        selection: str = "",
    ) -> None:
        self.config = config
        self.data = data
        self.classes = tuple(classes)
        self.multi_label = multi_label
        self.tokeniser = tokeniser
        self.widths = dict(widths)
        """modality -> width of the dataset's published features"""
        self.method = method.eval()
        self.selection = selection
        """how its epoch was chosen, in words"""

    @property
    def similarity(self) -> Similarity:
        """By which its embeddings are compared: "cosine", "pearson", …"""
        return self.method.similarity

    def save(self, run: Path, state: Mapping[str, Tensor], selection: str) -> None:
        """Write both files, the weights first, so that a reader never sees a description without its weights."""
        document = {
            "config": to_document(self.config),
            "data": to_document(self.data),
            "classes": self.classes,
            "multi_label": self.multi_label,
            "widths": self.widths,
            "tokeniser": self.tokeniser and self.tokeniser.to_document(),
            "selection": selection,
        }
        write_atomically(run / "model.safetensors", save({name: value.contiguous() for name, value in state.items()}))
        write_atomically(run / "model.json", (json.dumps(document, ensure_ascii=False) + "\n").encode())

    def embed_images(self, images: Iterable[Path | str | bytes | Image.Image]) -> NDArray[np.float32]:
        """Pictures (paths, encoded bytes or PIL images) to embeddings (n, d).

        Raises:
            XmrError: a file that is missing or no picture; names it.
        """
        self._require("image", "pixels")
        return self._embed("image", list(images), self._load_images)

    def embed_texts(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Texts to embeddings (n, d)."""
        self._require("text", "tokens")
        return self._embed("text", list(texts), self._load_texts)

    def embed_features(self, modality: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Published features (n, width) of a modality to embeddings (n, d)."""
        self._require(modality, "vector")
        return self._embed(modality, list(features), lambda rows: torch.from_numpy(np.stack(rows)).to(self._device))

    def embed_split(self, split: str, modality: str) -> NDArray[np.float32]:
        """Embeddings (n, d) of one modality of a split of `data.shards`: of the samples that have it, in order of
        position."""
        self._require(modality)
        rows, _ = embed_modality(self.method, self.data, self.tokeniser, split, modality)
        return rows.cpu().numpy()

    def _require(self, modality: str, source: Source | None = None) -> None:
        """Raise XmrError for a modality that the model does not have, or reads from something else."""
        found = self.method.sources.get(modality)
        if found is None:
            raise XmrError(f"this model has no {modality}; it embeds {', '.join(self.method.modalities)}")
        if source and found != source:
            raise XmrError(f"this model reads the {modality} of a sample as {found}, not as {source}")

    @property
    def _device(self) -> torch.device:
        return next(self.method.parameters()).device

    def _load_images(self, images: Sequence[Any]) -> Tensor:
        squares = [_load_image(image, self.data.load_size) for image in images]
        batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        return prepare_evaluation(batch.to(self._device), self.data.image_size)

    def _load_texts(self, texts: Sequence[str]) -> Tokens:
        assert self.tokeniser is not None, "a model that reads tokens has its tokeniser"
        tokens = pad([self.tokeniser.encode(text, max_tokens=self.data.max_tokens) for text in texts])
        return Tokens(*(tensor.to(self._device) for tensor in tokens))

    @torch.inference_mode()
    def _embed(self, modality: str, items: list[Any], load: Callable[[Sequence[Any]], Any]) -> NDArray[np.float32]:
        if not items:
            raise XmrError(f"nothing to embed: the list of {modality}s is empty")
        parts = [self.method.embed(modality, load(items[i : i + BATCH])) for i in range(0, len(items), BATCH)]
        return torch.cat(parts).float().cpu().numpy()


def load(run: str | Path, *, shards: str | Path | None = None) -> SavedModel:
    """The model of a run folder.

    Args:
        shards: where the dataset's shards lie now, if not where they lay in training.

    Raises:
        XmrError: no model there, or one that this version cannot read.
    """
    folder = Path(run)
    path = folder / "model.json"
    if not path.exists():
        raise XmrError(f"{path} does not exist: not a run folder, or no epoch of the run is finished yet")
    try:
        document = json.loads(path.read_bytes())
        config = from_document(document["config"], str(path))
        data = from_document(document["data"] | ({"shards": str(shards)} if shards else {}), str(path))
        tokeniser = tokeniser_from_document(document["tokeniser"]) if document["tokeniser"] else None
        widths = document["widths"]
        classes, multi_label, selection = (document[name] for name in ("classes", "multi_label", "selection"))
        state = load_file(folder / "model.safetensors")
    except (json.JSONDecodeError, KeyError, OSError, SafetensorError) as error:
        raise XmrError(f"{folder}: the model's files are damaged: {error!r}") from error
    # The true word vectors are in the state; a pretrained tokeniser has none.
    dim = 0 if data.tokens.kind == "transformers" else data.words.dim
    words = torch.zeros(len(tokeniser) if tokeniser else 0, dim)
    method = without_weights(config).build(Dataset(len(classes), multi_label, data.image_size, words, widths))
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        raise XmrError(f"{folder}: model.safetensors does not fit model.json: {error}") from error
    method.to("cuda" if torch.cuda.is_available() else "cpu")
    return SavedModel(config, data, classes, multi_label, tokeniser, widths, method, selection)


def require_shards(model: SavedModel) -> None:
    """Raise XmrError if the shards of the model's dataset are not where they lay in training."""
    if not model.data.shards.is_dir():
        raise XmrError(f"{model.data.shards}: no such folder; say where the run's shards lie now with --shards")


def _load_image(image: Path | str | bytes | Image.Image, side: int) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return centre_square(upright_rgb(image), side)
    if isinstance(image, bytes):
        return load_square(image, side, where="the given bytes")
    try:
        return load_square(Path(image).read_bytes(), side, where=str(image))
    except OSError as error:
        raise XmrError(f"{image}: cannot be read: {error.strerror}") from error
