"""A trained model that stands on its own, without the recipe that made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import InputKind, Tokens, map_tensors
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.data.text import pad
from xmr_e2e.data.tokenizer_documents import tokenizer_from_document
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.devices import uses_gpu
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import CLEAN, Protocol, SelectedOn
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.protocols import protocol as find_protocol
from xmr_e2e.models.embed import embed_modality
from xmr_e2e.models.fingerprint import fingerprint_of
from xmr_e2e.models.given import (
    LOADERS,
    MEDIA,
    PICTURES,
    RAW_KINDS,
    Media,
    Picture,
    as_items,
    joined,
    load_clips,
    load_images,
    load_shapes,
    load_sounds,
)
from xmr_e2e.models.hub import find_model, find_published
from xmr_e2e.models.model_card import Publication, model_card
from xmr_e2e.models.model_folder import (
    CARD,
    WEIGHTS,
    find_description,
    read_architectures,
    read_description,
    require_free,
    to_text,
    without_places,
    write_exported_model,
    write_run_model,
)
from xmr_e2e.models.rebuild import check_item_sizes, check_received_bounds, dataset_of, rebuild
from xmr_e2e.models.sentence_transformer_files import sentence_transformer_files
from xmr_e2e.models.unknown_words import UnknownWords
from xmr_e2e.models.weights import require_all, separated, shapes_of
from xmr_e2e.similarity import Similarity

BATCH = 64


class SavedModel:
    """A trained model, ready to embed pictures, texts, sounds, videos and shapes. `xmr_e2e.load(run)` makes it."""

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
        return fingerprint_of(self.config, self.data, self.tokenizer, self.method)

    def save(self, run: Path, state: Mapping[str, Tensor], selection: str) -> None:
        """Write a run's model, with weights of its own."""
        write_run_model(run, self._document() | {"selection": selection}, state, self._shapes, self._architectures)

    def check(self, state: Mapping[str, Tensor]) -> None:
        """Raise XmrError if `save` would not write the whole model from this state."""
        json.dumps(self._document())
        require_all({name: tuple(value.shape) for name, value in separated(state).items()}, self._shapes, WEIGHTS)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        evaluations: Sequence[EvaluationResult] = (),
        notes: Sequence[str] = (),
        publication: Publication = Publication(),
    ) -> None:
        """Write the model in the layout of the Hugging Face hub: weights, description, tokeniser, model card.

        Args:
            folder: which holds no model yet.
            evaluations: of the model, for the card.
            notes: what a reader of these figures must know of the data.
            publication: its license and its name on the hub, for the card.

        Raises:
            XmrError: the folder holds a model, or the license is none that the hub could know.
        """
        from xmr_e2e.models.merged import merged

        if (whole := merged(self)) is not self:
            return whole.save_pretrained(folder, evaluations=evaluations, notes=notes, publication=publication)
        require_free(Path(folder))
        card = model_card(self, evaluations, notes, publication)
        # Where the shards lay is nobody's business outside; who has them says where with `shards`.
        data = replace(self.data, shards=Path(self.data.shards.name), extra_shards={})
        document = self._document() | {
            "data": without_places(to_document(data)),
            "config": without_places(to_document(self.config)),
        }
        texts = {CARD: card} | {name: to_text(each) for name, each in sentence_transformer_files(self).items()}
        write_exported_model(Path(folder), document, self.method.state_dict(), self._shapes, texts, self._architectures)

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
        return load_folder(find_published(name, revision), shards=shards)

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
        items = as_items(images, PICTURES, "pictures are paths, bytes or PIL images")
        return self._embed("image", items, partial(load_images, data=self.data))

    def embed_texts(self, texts: str | Iterable[str]) -> NDArray[np.float32]:
        """Texts, or one text, to embeddings (n, d).

        Raises:
            XmrError: something that is no text; says which.
        """
        self._require("text", "tokens")
        return self._embed("text", as_items(texts, (str,), "texts are strings"), self.load_texts)

    def embed_audio(self, sounds: Media | Iterable[Media], *, rate: int | None = None) -> NDArray[np.float32]:
        """Sounds (paths, bytes of files, or arrays of mono samples (t,) in [-1, 1]), or one of them, to embeddings
        (n, d): of each the mean over the windows that evaluation hears.

        Args:
            rate: samples per second of the arrays; by default `data.audio.rate`, at which the model hears.

        Raises:
            XmrError: a file that is missing or no sound, or something that stands for none; names it.
        """
        self._require("audio", "waveform")
        items = as_items(sounds, MEDIA, "sounds are paths, bytes or arrays of samples")
        return self._embed("audio", items, partial(load_sounds, data=self.data, rate=rate))

    def embed_video(self, videos: Media | Iterable[Media]) -> NDArray[np.float32]:
        """Videos (paths, bytes of files, or arrays of frames, uint8 (f, h, w, 3), RGB, evenly spaced in time), or one
        of them, to embeddings (n, d), by the frames that evaluation sees.

        Raises:
            XmrError: a file that is missing or no video, or something that stands for none; names it.
        """
        self._require("video", "frames")
        items = as_items(videos, MEDIA, "videos are paths, bytes or arrays of frames")
        return self._embed("video", items, partial(load_clips, data=self.data))

    def embed_shapes(self, shapes: Media | Iterable[Media], *, extension: str = "") -> NDArray[np.float32]:
        """3D shapes (paths, bytes of files, or arrays of points (p, 3)), or one of them, to embeddings (n, d), by the
        points that evaluation sees.

        Args:
            extension: of shapes that are given as bytes, such as "stl", for what does not say itself what it is.

        Raises:
            XmrError: a file that is missing or no shape, or something that stands for none; names it.
        """
        self._require("shape3d", "points")
        items = as_items(shapes, MEDIA, "shapes are paths, bytes or arrays of points")
        return self._embed("shape3d", items, partial(load_shapes, data=self.data, extension=extension))

    def unknown_words(self, text: str) -> UnknownWords:
        """The words, or parts of words, of a text for which the model has nothing but `<unk>`."""
        return UnknownWords.of(self.tokenizer.lookup(text)[: self.data.max_tokens] if self.tokenizer else [])

    def embed_features(self, modality: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Published features (n, width) of a modality to embeddings (n, d)."""
        self._require(modality, "vector")
        return self._embed(modality, list(features), lambda rows: torch.from_numpy(np.stack(rows)))

    def embed_files(self, modality: str, files: Sequence[Path]) -> NDArray[np.float32]:
        """Files of pictures, sounds, videos or shapes to embeddings (n, d).

        Raises:
            XmrError: a file that is missing or cannot be decoded; names it.
        """
        self._require(modality, RAW_KINDS[modality])
        return self._embed(modality, [*files], partial(LOADERS[modality], data=self.data))

    def embed_decoded(self, modality: str, decoded: Sequence[Any]) -> NDArray[np.float32]:
        """Files that `given.LOADERS` has decoded, one batch for each, to embeddings (n, d)."""
        self._require(modality, RAW_KINDS[modality])
        return self._embed(modality, [*decoded], joined)

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

    def load_texts(self, texts: Sequence[str]) -> Tokens:
        """Texts as token ids, as far as the model reads them."""
        assert self.tokenizer is not None, "a model that reads tokens has its tokeniser"
        return pad([self.tokenizer.encode(text, max_tokens=self.data.max_tokens) for text in texts])

    def _embed(self, modality: str, items: list[Any], load: Callable[[Sequence[Any]], Any]) -> NDArray[np.float32]:
        if not items:
            raise XmrError(f"nothing to embed: the list of {modality}s is empty")
        parts = [self._rows(modality, load(items[start : start + BATCH])) for start in range(0, len(items), BATCH)]
        return torch.cat(parts).cpu().numpy()

    @torch.inference_mode()
    def _rows(self, modality: str, inputs: Any) -> Tensor:
        """Embeddings (n, d) of inputs as a loader gives them."""
        moved = map_tensors(inputs, lambda tensor: tensor.to(self._device))
        return self.method.embed(
            modality, Preparation(self.data.image_size, self.data.video.size).for_evaluation(moved)
        ).float()


def load(run: str | Path, *, shards: str | Path | None = None) -> SavedModel:
    """The model of a run folder, of an exported one, or of the Hugging Face hub (USER/MODEL, or USER/MODEL@REVISION,
    where USER is no folder here), whoever made it.

    What is there is data: no code that lies beside it runs, and networks are made only when their weights are known to
    be there, and no larger than these. For a folder, nobody is asked for anything over a network.

    Args:
        shards: where the dataset's shards lie now, if not where they lay in training.

    Raises:
        XmrError: no model there, or one that this version cannot read.
    """
    return load_folder(find_model(run), shards=shards)


def load_folder(run: str | Path, *, shards: str | Path | None = None) -> SavedModel:
    """As `load`, but of a folder, whatever it is called: it is not looked for on the hub."""
    folder = Path(run)
    path = find_description(folder)
    described = read_description(path)
    config = from_document(MethodConfig, described.config, f"{path}: config")  # type: ignore[type-abstract]
    own = described.data | ({"shards": str(shards)} if shards else {})
    data = from_document(Data, own, f"{path}: data")
    for name, each in (("config", config), ("data", data)):
        check_received_bounds(each, f"{path}: {name}")
    check_item_sizes(data, f"{path}: data")
    tokenizer = tokenizer_from_document(described.tokenizer, f"{path}: tokeniser") if described.tokenizer else None
    dataset = dataset_of(described, data, tokenizer, read_architectures(folder, config))
    method = rebuild(config, dataset, folder / WEIGHTS, path)
    method.to("cuda" if uses_gpu() else "cpu")
    return SavedModel(
        config, data, described.classes, described.multi_label, tokenizer, described.widths, method,
        described.selection, protocol=find_protocol(described.protocol), selected_on=described.selected_on,
    )  # fmt: skip


def require_shards(model: SavedModel) -> None:
    """Raise XmrError if the shards of the model's dataset are not where they lay in training."""
    if not model.data.shards.is_dir():
        raise XmrError(f"{model.data.shards}: no such folder; say where the run's shards lie now with --shards")
