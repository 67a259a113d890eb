"""Pretrained transformers by name or folder: CLIP, BLIP-2, ViT, BERT and their relatives (SDCMR, Table V)."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin

from xmr_e2e.configuration import BEFORE
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.data.batch import Tokens
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.networks import Renormalize
from xmr_e2e.towers.sizes import run_on_sizes
from xmr_e2e.towers.text import real_words

_CLIP_STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# By the first part of the model type; others are ImageNet's. Used where no file beside the model tells them.
_STATISTICS = {"clip": _CLIP_STATISTICS, "blip": _CLIP_STATISTICS, "vit": _HALVES, "siglip": _HALVES}

_ADDED_TOKENS = 64  # that a tokeniser may have beyond its model's, such as <image>; texts do not hold them


@dataclass(frozen=True)
class _Part:
    """The part of a model of several modalities that makes one tower."""

    model: str
    """class in transformers"""
    config: str | None = "vision_config"
    """the part's own configuration within the model's"""
    keys: Mapping[str, str] = field(default_factory=dict)
    """the names of the parameters in the whole model (a pattern) and in the part"""


# By the model type, and by `projected`. SigLIP's towers end in the space that both share, without a layer of its own.
_VISION_PARTS = {
    ("clip", True): _Part("CLIPVisionModelWithProjection"),
    ("clip", False): _Part("CLIPVisionModel"),
    ("siglip", True): _Part("SiglipVisionModel"),
    ("siglip", False): _Part("SiglipVisionModel"),
    ("blip-2", True): _Part("Blip2VisionModelWithProjection", None),
    ("blip-2", False): _Part("Blip2VisionModel", keys={r"^vision_model\.": ""}),
}
# BLIP-2's are in the checkpoints for retrieval only; of its Q-Former on texts, transformers has no other output.
_TEXT_PARTS = {
    ("clip", True): _Part("CLIPTextModelWithProjection", "text_config"),
    ("clip", False): _Part("CLIPTextModel", "text_config"),
    ("siglip", True): _Part("SiglipTextModel", "text_config"),
    ("siglip", False): _Part("SiglipTextModel", "text_config"),
    ("blip-2", True): _Part("Blip2TextModelWithProjection", None),
    ("blip-2", False): _Part("Blip2TextModelWithProjection", None),
}
_Parts = Mapping[tuple[str, bool], _Part]


@dataclass(frozen=True)
class PretrainedVision(TowerConfig):
    """A vision transformer by name or folder, such as CLIP, SigLIP, DINOv2 or BLIP-2: of CLIP, SigLIP and BLIP-2 the
    embedding in the space of images and texts, of others the pooled output, or the class token where the pooling is a
    layer of another training."""

    kind = "transformers"
    input_kind = "pixels"
    is_pretrained = True

    name: str
    """the model's name on the Hugging Face hub (openai/clip-vit-base-patch32, google/vit-base-patch16-224-in21k,
    Salesforce/blip2-itm-vit-g), or a folder with its config.json and weights"""
    weights: Literal["pretrained", "none"] = "pretrained"
    """pretrained, or none: random weights, of the architecture that the name stands for"""
    revision: str = ""
    """of a model of the hub: a commit, so that it is the same one tomorrow; by default the newest"""
    projected: bool = field(default=True, metadata={BEFORE: False})
    """CLIP: through its projection into the space of its texts. BLIP-2: the mean over its queries' projections, brought
    to length 1; the query that fits best, by which BLIP-2 itself compares, is another for each text, so that no single
    embedding of the image has it. Otherwise the vision transformer alone, which shares no space with the texts"""

    def build(self, dataset: DatasetInfo, modality: str) -> VisionEncoder:
        """Position embeddings are interpolated where the images have another size than the model's.

        Raises XmrError for a model that cannot be had or is no vision model, and an impossible image size.
        """
        model, architecture = _load(self, dataset, _VISION_PARTS, "pixel_values", modality)
        # A saved model has its statistics among its weights.
        statistics = (torch.zeros(3), torch.ones(3)) if dataset.is_saved else _statistics(self, model.config)
        encoder = VisionEncoder(model, statistics, dataset.image_size)
        encoder.architecture = architecture
        encoder.dim = _try(
            encoder,
            lambda: torch.zeros(1, 3, dataset.image_size, dataset.image_size),
            f"{self.name} cannot take images of {dataset.image_size} pixels",
            dataset,
        )
        return encoder


class VisionEncoder(nn.Module):
    """Images (n, 3, h, w), RGB, normalised by ImageNet's statistics -> (n, dim)."""

    dim: int
    architecture: PretrainedConfig
    """of the whole model, of which the network may be a part: what a saved model is built from again"""

    def __init__(self, model: PreTrainedModel, statistics: tuple[Tensor, Tensor], image_size: int) -> None:
        super().__init__()
        self.network = model
        self.renormalize = Renormalize(*statistics, saved=True)
        # The projected BLIP-2 hands the option on to its vision model, which has it.
        takes_it = getattr(model, "vision_model", model).forward
        interpolates = "interpolate_pos_encoding" in inspect.signature(takes_it).parameters
        config = getattr(model.config, "vision_config", model.config)
        other_size = image_size != getattr(config, "image_size", image_size)
        self.options = {"interpolate_pos_encoding": True} if interpolates and other_size else {}

    def forward(self, images: Tensor) -> Tensor:
        output = self.network(pixel_values=self.renormalize(images), **self.options)
        if (projected := output.get("image_embeds")) is not None:
            # BLIP-2: (n, queries, dim), each of length 1, as its text embeddings are
            return projected if projected.dim() == 2 else F.normalize(projected.mean(dim=1), dim=-1)
        pooled: Tensor | None = output.get("pooler_output")
        return output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


@dataclass(frozen=True)
class PretrainedText(TowerConfig):
    """A text transformer by name or folder, such as CLIP, BERT or a sentence encoder: of CLIP, SigLIP and BLIP-2 the
    embedding in the space of images and texts, of others the mean over the tokens.

    The texts are to be cut by the model's own tokeniser: --data.tokens.kind transformers, --data.tokens.name its name.
    Where the tower is named on the command line and tokens are not, they follow it.
    """

    kind = "transformers"
    input_kind = "tokens"
    is_pretrained = True

    name: str
    """the model's name on the Hugging Face hub (openai/clip-vit-base-patch32, google-bert/bert-base-uncased,
    Salesforce/blip2-itm-vit-g), or a folder with its config.json and weights"""
    weights: Literal["pretrained", "none"] = "pretrained"
    """pretrained, or none: random weights, of the architecture that the name stands for"""
    revision: str = ""
    """of a model of the hub: a commit, so that it is the same one tomorrow; by default the newest"""
    projected: bool = field(default=True, metadata={BEFORE: False})
    """CLIP: through its projection into the space of its images; otherwise its pooled output, which shares no space
    with them. SigLIP's and BLIP-2's text sides end in that space in any case"""

    def build(self, dataset: DatasetInfo, modality: str) -> TextEncoder:
        """Raises XmrError for a model that cannot be had or is no text model, and tokens that are not its own."""
        if dataset.words.shape[1]:
            raise XmrError(
                f"{self.name} reads the tokens of its own tokeniser: set --data.tokens.kind transformers and "
                f"--data.tokens.name {self.name}"
            )
        model, architecture = _load(self, dataset, _TEXT_PARTS, "input_ids", modality)
        encoder = TextEncoder(model)
        encoder.architecture = architecture
        if len(dataset.words) > encoder.known + _ADDED_TOKENS:
            raise XmrError(
                f"{self.name} knows {encoder.known} tokens, and the tokeniser has {len(dataset.words)}: set "
                f"--data.tokens.name {self.name}"
            )
        encoder.dim = _try(
            encoder,
            lambda: Tokens(torch.ones(1, 2, dtype=torch.long), torch.tensor([2])),
            f"{self.name} cannot be used as a text tower",
            dataset,
        )
        return encoder


class TextEncoder(nn.Module):
    """Tokens of n texts -> (n, dim); the same however long the padding is."""

    dim: int
    architecture: PretrainedConfig
    """as of `VisionEncoder`"""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.network = model
        self.known = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
        self.padding = getattr(model.config, "pad_token_id", None) or 0
        self.longest: int | None = getattr(model.config, "max_position_embeddings", None)
        self.fills_up = model.config.model_type == "siglip_text_model"

    def forward(self, tokens: Tokens) -> Tensor:
        if self.longest and tokens.ids.shape[1] > self.longest:
            raise XmrError(
                f"a text has {tokens.ids.shape[1]} tokens and the model reads {self.longest}: set "
                f"--data.max-tokens {self.longest}"
            )
        mask = real_words(tokens)
        # Some models tell padding by its own id, too.
        ids = tokens.ids.clamp(max=self.known - 1).masked_fill(~mask, self.padding)
        if self.fills_up and self.longest:  # SigLIP's last place is its output, and it attends to padding
            ids = F.pad(ids, (0, self.longest - ids.shape[1]), value=self.padding)
            pooled: Tensor = self.network(input_ids=ids).pooler_output
            return pooled
        output = self.network(input_ids=ids, attention_mask=mask.long())
        if (projected := output.get("text_embeds")) is not None:
            return projected if projected.dim() == 2 else projected[:, 0]  # BLIP-2: (n, t, dim); the first token's
        if (pooled := output.get("pooler_output")) is not None:
            return pooled
        weights = mask[:, :, None].to(output.last_hidden_state.dtype)
        return (output.last_hidden_state * weights).sum(dim=1) / weights.sum(dim=1)


def _load(
    tower: PretrainedVision | PretrainedText, dataset: DatasetInfo, parts: _Parts, reads: str, modality: str
) -> tuple[PreTrainedModel, PretrainedConfig]:
    """The model, or its part for one modality, without a pooling layer of another training; and the architecture of the
    whole. Of a saved model, both come from its own files."""
    try:
        with _quiet():
            architecture = (
                AutoConfig.from_pretrained(tower.name, revision=tower.revision or "main", trust_remote_code=False)
                if dataset.architectures is None
                else dataset.architectures[modality]
            )
            cls, own, keys = _part(architecture, parts, tower.projected)
            model: Any = _create(cls, own) if tower.weights == "none" else _download(tower, cls, own, keys)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise XmrError(
            f"--method.{modality}.name {tower.name}: the model cannot be had ({error}). Name a model of the Hugging "
            "Face hub that can be reached or was downloaded before, or a folder with its config.json and "
            "model.safetensors; models that bring code of their own, or weights in another form, are not loaded"
        ) from error
    if model.main_input_name != reads:
        raise XmrError(f"--method.{modality}.name {tower.name}: a {type(model).__name__} does not read {modality}s")
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.pooler = None  # ViT's and BERT's belong to a task on whole images or pairs of sentences
    return model, architecture


def _part(
    architecture: PretrainedConfig, parts: _Parts, projected: bool
) -> tuple[Any, PretrainedConfig, Mapping[str, str] | None]:
    """The class that makes the tower, its configuration, and how its weights are named in those of the whole model."""
    part = parts.get((architecture.model_type, projected))
    if part is None and hasattr(architecture, "vision_config"):
        known = ", ".join(dict.fromkeys(kind for kind, _ in parts))
        raise ValueError(f"{architecture.model_type} has several modalities; of these, {known} can be used")
    if part is None:
        return AutoModel, architecture, None
    own = getattr(architecture, part.config) if part.config else architecture
    if hasattr(own, "projection_dim"):  # in CLIP, the whole model's is the one that counts
        own = copy.deepcopy(own)
        own.projection_dim = architecture.projection_dim
    return getattr(transformers, part.model), own, dict(part.keys) or None


def _create(cls: Any, own: PretrainedConfig) -> PreTrainedModel:
    """A model of random weights."""
    if cls is AutoModel:
        model: PreTrainedModel = cls.from_config(own, dtype=torch.float32, trust_remote_code=False)
        return model
    made: PreTrainedModel = cls(own)
    return made


def _download(
    tower: PretrainedVision | PretrainedText, cls: Any, own: PretrainedConfig, keys: Mapping[str, str] | None
) -> PreTrainedModel:
    """A model of pretrained weights, out of safetensors alone: no other form of them is certain to be no program."""
    code = {"trust_remote_code": False} if cls is AutoModel else {}  # other classes are transformers' own
    model, report = cls.from_pretrained(
        tower.name,
        config=own,
        dtype=torch.float32,
        key_mapping=keys,
        output_loading_info=True,
        revision=tower.revision or "main",
        use_safetensors=True,
        **code,
    )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        unaligned = tower.projected and any("projection" in key for key in missing)
        hint = (
            "; it was not trained to compare images with texts: choose another, or projected=False" if unaligned else ""
        )
        raise ValueError(f"{len(missing)} of its parameters are missing there, such as {missing[0]}{hint}")
    found: PreTrainedModel = model
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers tells of each parameter that a part of a model does not take; what is missing is checked here."""
    logging = transformers.utils.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _statistics(tower: PretrainedVision, config: PretrainedConfig) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the images that the model was trained with."""
    kind = config.model_type.replace("-", "_").partition("_")[0]
    mean, std = _STATISTICS.get(kind, (IMAGENET_MEAN, IMAGENET_STD))
    try:
        with _quiet():
            processor, _ = ImageProcessingMixin.get_image_processor_dict(tower.name, revision=tower.revision or "main")
    except OSError:  # no such file beside the model
        processor = {}
    if processor.get("do_normalize", True):
        mean, std = processor.get("image_mean", mean), processor.get("image_std", std)
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return torch.tensor(mean), torch.tensor(std)


def _try(encoder: nn.Module, example: Callable[[], Any], complaint: str, dataset: DatasetInfo) -> int:
    """The width of the encoder's output. Parameters that have no part in it are frozen, as DistributedDataParallel
    would wait for their gradients; not those of a saved model, with which nothing is computed here."""
    encoder.eval()
    try:
        if dataset.is_saved:
            return run_on_sizes(encoder, example).shape[1]
        with torch.enable_grad():
            output: Tensor = encoder(example())
            output.sum().backward()
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise XmrError(f"{complaint}: {error}") from error
    for parameter in encoder.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    encoder.zero_grad(set_to_none=True)
    encoder.train()
    return output.shape[1]
