"""A trained model that stands on its own, without the recipe that made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.augment import prepare_evaluation
from xmr_e2e.data.config import Data
from xmr_e2e.data.images import center_square, load_square
from xmr_e2e.data.inputs import InputKind, Tokens
from xmr_e2e.data.text import pad
from xmr_e2e.data.tokenizers import Tokenizer, tokenizer_from_document
from xmr_e2e.devices import uses_gpu
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import CLEAN, Protocol, SelectedOn
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.protocols import protocol as find_protocol
from xmr_e2e.models.embed import embed_modality
from xmr_e2e.models.hub import download
from xmr_e2e.models.model_card import model_card
from xmr_e2e.models.model_folder import (
    WEIGHTS,
    find_description,
    read_architectures,
    read_description,
    require_free,
    write_exported_model,
    write_run_model,
)
from xmr_e2e.models.rebuild import check_received_bounds, rebuild
from xmr_e2e.models.weights import require_all, separated, shapes_of
from xmr_e2e.received import read_bytes
from xmr_e2e.shards.media import IMAGE_BYTES, UnusableImage, upright_rgb
from xmr_e2e.similarity import Similarity
from xmr_e2e.towers.base import DatasetInfo

BATCH = 64
WORDS_SHOWN = 10
"""unknown words that are named to a person"""
Picture: TypeAlias = Path | str | bytes | Image.Image
_IMAGE_TYPES = (Path, str, bytes, Image.Image)


@dataclass(frozen=True)
class UnknownWords:
    """The words of a text that a model does not know."""

    words: tuple[str, ...]
    """each once, in order"""
    is_all: bool
    """no word of the text is known: its embedding says nothing"""

    def __str__(self) -> str:
        """For a person; empty where all is known."""
        if self.is_all:
            return "no word of the query is known to the model: what is found does not depend on it"
        more = f" and {len(self.words) - WORDS_SHOWN} more" if len(self.words) > WORDS_SHOWN else ""
        return (
            f"unknown to the model, and passed over: {', '.join(self.words[:WORDS_SHOWN])}{more}" if self.words else ""
        )


class SavedModel:
    """A trained model, ready to embed pictures and texts. `xmr_e2e.load(run)` makes it."""

    def __init__(
        self,
        config: MethodConfig,
        data: Data,
        classes: Sequence[str],
        multi_label: bool,
        tokenizer: Tokenizer | None,
        widths: Mapping[str, int],
        method: Method,
        selection: str = "",
        *,
        protocol: Protocol = CLEAN,
        selected_on: SelectedOn = "val",
    ) -> None:
        self.config = config
        self.data = data
        self.classes = tuple(classes)
        self.multi_label = multi_label
        self.tokenizer = tokenizer
        self.widths = dict(widths)
        """modality -> width of the dataset's published features"""
        self.method = method.eval()
        self._shapes = shapes_of(method)
        towers: dict[str, Any] = dict(method.towers.items())
        pretrained = [name for name, tower in config.towers.items() if tower.is_pretrained]
        self._architectures = {name: towers[name].architecture for name in pretrained}
        self.selection = selection
        """how its epoch was chosen, in words"""
        self.protocol = protocol
        """by which it was trained"""
        self.selected_on: SelectedOn = selected_on
        """what had a say in the choice of its epoch"""

    @property
    def similarity(self) -> Similarity:
        """The similarity of its embeddings: "cosine", "pearson", …"""
        return self.method.similarity

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that its embeddings depend on; the same for a run, its copies and its exported model."""
        data = self.data
        about = [
            _without_origins(to_document(self.config)),
            # As before there was a choice, where it is as before.
            [
                data.load_size,
                data.image_size,
                data.max_tokens,
                *([] if data.interpolation == "bilinear" else ["bicubic"]),
            ],
            self.tokenizer and self.tokenizer.to_document(),
        ]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, value in sorted(self.method.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def save(self, run: Path, state: Mapping[str, Tensor], selection: str) -> None:
        """Write a run's model, with weights of its own."""
        write_run_model(run, self._document() | {"selection": selection}, state, self._shapes, self._architectures)

    def check(self, state: Mapping[str, Tensor]) -> None:
        """Raise XmrError if `save` would not write the whole model from this state."""
        json.dumps(self._document())
        require_all({name: tuple(value.shape) for name, value in separated(state).items()}, self._shapes, WEIGHTS)

    def save_pretrained(
        self, folder: str | Path, *, evaluations: Sequence[EvaluationResult] = (), notes: Sequence[str] = ()
    ) -> None:
        """Write the model in the layout of the Hugging Face hub: weights, description, tokeniser, model card.

        Args:
            folder: which holds no model yet.
            evaluations: of the model, for the card.
            notes: what a reader of these figures must know of the data.

        Raises:
            XmrError: the folder holds a model.
        """
        from xmr_e2e.models.merged import merged

        if (whole := merged(self)) is not self:
            return whole.save_pretrained(folder, evaluations=evaluations, notes=notes)
        require_free(Path(folder))
        card = model_card(self, evaluations, notes)
        # Where the shards lay is nobody's business outside; who has them says where with `shards`.
        data = replace(self.data, shards=Path(self.data.shards.name), extra_shards={})
        document = self._document() | {
            "data": _without_places(to_document(data)),
            "config": _without_places(to_document(self.config)),
        }
        write_exported_model(Path(folder), document, self.method.state_dict(), self._shapes, card, self._architectures)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, shards: str | Path | None = None
    ) -> SavedModel:
        """The model that `save_pretrained` wrote: to this folder, or to one that is published on the Hugging Face hub
        under this name, such as "someone/model".

        Args:
            revision: of a model of the hub: a commit (or branch, or tag), so that it is the same one tomorrow; by
                default the newest.
            shards: where the dataset's shards lie now, if not where they lay in training.

        Raises:
            XmrError: no such folder or name, a hub that cannot be reached, or a model that cannot be read.
        """
        if not Path(name).is_dir():
            return load(download(str(name), revision), shards=shards)
        if revision is not None:
            raise XmrError(f"{name} is a folder, and revisions are of models on the Hugging Face hub: leave it out")
        return load(name, shards=shards)

    def _document(self) -> dict[str, Any]:
        return {
            "config": to_document(self.config),
            "data": to_document(self.data),
            "classes": self.classes,
            "multi_label": self.multi_label,
            "widths": self.widths,
            "tokenizer": self.tokenizer and self.tokenizer.to_document(),
            "selection": self.selection,
            "protocol": self.protocol.name,
            "selected_on": self.selected_on,
        }

    def embed_images(self, images: Picture | Iterable[Picture]) -> NDArray[np.float32]:
        """Pictures (paths, encoded bytes or PIL images), or one of them, to embeddings (n, d).

        Raises:
            XmrError: a file that is missing or no picture, or something that stands for none; names it.
        """
        self._require("image", "pixels")
        return self._embed("image", _items(images, _IMAGE_TYPES, "pictures are paths, bytes or PIL images"),
                           self._load_images)  # fmt: skip

    def embed_texts(self, texts: str | Iterable[str]) -> NDArray[np.float32]:
        """Texts, or one text, to embeddings (n, d).

        Raises:
            XmrError: something that is no text; says which.
        """
        self._require("text", "tokens")
        return self._embed("text", _items(texts, (str,), "texts are strings"), self._load_texts)

    def unknown_words(self, text: str) -> UnknownWords:
        """The words, or parts of words, of a text for which the model has nothing but `<unk>`."""
        found = self.tokenizer.lookup(text)[: self.data.max_tokens] if self.tokenizer else []
        unknown = dict.fromkeys(word for word, known in found if not known)
        return UnknownWords(tuple(unknown), is_all=not any(known for _, known in found))

    def embed_features(self, modality: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Published features (n, width) of a modality to embeddings (n, d)."""
        self._require(modality, "vector")
        return self._embed(modality, list(features), lambda rows: torch.from_numpy(np.stack(rows)).to(self._device))

    def embed_split(self, split: str, modality: str) -> NDArray[np.float32]:
        """Embeddings (n, d) of one modality of a split of `data.shards`: of the samples that have it, in order of
        position."""
        self._require(modality)
        rows, _ = embed_modality(self.method, self.data, self.tokenizer, split, modality)
        return rows.cpu().numpy()

    def _require(self, modality: str, source: InputKind | None = None) -> None:
        """Raise XmrError for a modality that the model does not have, or reads from something else."""
        found = self.method.input_kinds.get(modality)
        if found is None:
            raise XmrError(f"this model has no {modality}; it embeds {', '.join(self.method.modalities)}")
        if source and found != source:
            raise XmrError(f"this model reads the {modality} of a sample as {found}, not as {source}")

    @property
    def _device(self) -> torch.device:
        return self.method.device

    def _load_images(self, images: Sequence[Any]) -> Tensor:
        squares = [_load_image(image, self.data) for image in images]
        batch = torch.stack(squares)
        return prepare_evaluation(batch.to(self._device), self.data.image_size)

    def _load_texts(self, texts: Sequence[str]) -> Tokens:
        assert self.tokenizer is not None, "a model that reads tokens has its tokeniser"
        tokens = pad([self.tokenizer.encode(text, max_tokens=self.data.max_tokens) for text in texts])
        return Tokens(*(tensor.to(self._device) for tensor in tokens))

    @torch.inference_mode()
    def _embed(self, modality: str, items: list[Any], load: Callable[[Sequence[Any]], Any]) -> NDArray[np.float32]:
        if not items:
            raise XmrError(f"nothing to embed: the list of {modality}s is empty")
        parts = [self.method.embed(modality, load(items[i : i + BATCH])) for i in range(0, len(items), BATCH)]
        return torch.cat(parts).float().cpu().numpy()


def load(run: str | Path, *, shards: str | Path | None = None) -> SavedModel:
    """The model of a run folder, or of an exported one, whoever made it.

    What is there is data: no code that lies beside it runs, nobody is asked for anything over a network, and networks
    are made only when their weights are known to be there, and no larger than these.

    Args:
        shards: where the dataset's shards lie now, if not where they lay in training.

    Raises:
        XmrError: no model there, or one that this version cannot read.
    """
    folder = Path(run)
    path = find_description(folder)
    described = read_description(path)
    config = from_document(MethodConfig, described.config, f"{path}: config")  # type: ignore[type-abstract]
    own = described.data | ({"shards": str(shards)} if shards else {})
    data = from_document(Data, own, f"{path}: data")
    for name, each in (("config", config), ("data", data)):
        check_received_bounds(each, f"{path}: {name}")
    tokenizer = tokenizer_from_document(described.tokenizer, f"{path}: tokeniser") if described.tokenizer else None
    dataset = DatasetInfo(
        len(described.classes),
        described.multi_label,
        data.image_size,
        _words(data, tokenizer),
        described.widths,
        read_architectures(folder, config),
        frame_size=data.video.size,
        sound_rate=data.audio.rate,
    )
    method = rebuild(config, dataset, folder / WEIGHTS, path)
    method.to("cuda" if uses_gpu() else "cpu")
    return SavedModel(
        config, data, described.classes, described.multi_label, tokenizer, described.widths, method,
        described.selection, protocol=find_protocol(described.protocol), selected_on=described.selected_on,
    )  # fmt: skip


def _words(data: Data, tokenizer: Tokenizer | None) -> Tensor:
    """Word vectors of the right shape, (v, e), that take no memory: the true ones are among the weights. A pretrained
    tokeniser has none."""
    dim = 0 if data.tokens.kind == "transformers" else data.words.dim
    return torch.zeros(1, 1).expand(len(tokenizer) if tokenizer else 0, dim)


def _other_interpolation(data: Data) -> list[str]:
    """Nothing for that of before there was a choice, so that the fingerprints of then are the same."""
    return [] if data.interpolation == "bilinear" else [data.interpolation]


_ORIGINS = ("name", "weights", "revision")


def _without_origins(document: Any) -> Any:
    """A configuration without the names and files that its networks once came from; the weights stand for them."""
    if not isinstance(document, dict):
        return document
    return {key: _without_origins(value) for key, value in document.items() if key not in _ORIGINS}


def _without_places(document: Any) -> Any:
    """A configuration in which a file or folder of this machine is its name alone."""
    if isinstance(document, dict):
        return {key: _without_places(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_without_places(value) for value in document]
    is_place = isinstance(document, str) and (document.startswith(("/", "~")) or ".." in Path(document).parts)
    return Path(document).name if is_place else document


def require_shards(model: SavedModel) -> None:
    """Raise XmrError if the shards of the model's dataset are not where they lay in training."""
    if not model.data.shards.is_dir():
        raise XmrError(f"{model.data.shards}: no such folder; say where the run's shards lie now with --shards")


def _items(given: Any, types: tuple[type, ...], expected: str) -> list[Any]:
    """A list of items; a single one is a list of one. Raises XmrError for something else."""
    if isinstance(given, types):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise XmrError(f"{expected}, one or a list of them, not {type(given).__name__}")
    items = list(given)
    for number, item in enumerate(items):
        if not isinstance(item, types):
            raise XmrError(f"{expected}, and item {number} is {type(item).__name__}: {str(item)[:60]!r}")
    return items


def _load_image(image: Picture, data: Data) -> Tensor:
    side, how = data.load_size, data.interpolation
    if isinstance(image, Image.Image):
        try:
            return center_square(upright_rgb(image), side, how)
        except UnusableImage as error:  # opened and not yet decoded, such an image may be of a damaged file
            raise XmrError(f"the given image {error}") from error
    if isinstance(image, bytes):
        return load_square(image, side, where="the given bytes", interpolation=how)
    try:
        return load_square(read_bytes(Path(image), most=IMAGE_BYTES), side, where=str(image), interpolation=how)
    except OSError as error:
        raise XmrError(f"{image}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise XmrError(f"{str(image)!r} is no path: {error}") from error
