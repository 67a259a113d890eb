"""Models of transformers, whole or the part for one modality, by name or folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin

from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.lora import add_lora

if TYPE_CHECKING:
    from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision

_CLIP_STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# By the first part of the model type; others are ImageNet's. Used where no file beside the model tells them.
_STATISTICS = {"clip": _CLIP_STATISTICS, "blip": _CLIP_STATISTICS, "vit": _HALVES, "siglip": _HALVES}


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
# Sides of CLIP on their own are what `xmr export --transformers` writes.
VISION_PARTS = {
    ("clip", True): _Part("CLIPVisionModelWithProjection"),
    ("clip", False): _Part("CLIPVisionModel"),
    ("clip_vision_model", True): _Part("CLIPVisionModelWithProjection", None),
    ("siglip", True): _Part("SiglipVisionModel"),
    ("siglip", False): _Part("SiglipVisionModel"),
    ("blip-2", True): _Part("Blip2VisionModelWithProjection", None),
    ("blip-2", False): _Part("Blip2VisionModel", keys={r"^vision_model\.": ""}),
}
# BLIP-2's are in the checkpoints for retrieval only; of its Q-Former on texts, transformers has no other output.
TEXT_PARTS = {
    ("clip", True): _Part("CLIPTextModelWithProjection", "text_config"),
    ("clip", False): _Part("CLIPTextModel", "text_config"),
    ("clip_text_model", True): _Part("CLIPTextModelWithProjection", None),
    ("siglip", True): _Part("SiglipTextModel", "text_config"),
    ("siglip", False): _Part("SiglipTextModel", "text_config"),
    ("blip-2", True): _Part("Blip2TextModelWithProjection", None),
    ("blip-2", False): _Part("Blip2TextModelWithProjection", None),
}
_Parts = Mapping[tuple[str, bool], _Part]


def load_model(
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
    if tower.trained == "lora":
        add_lora(model, tower.lora_rank, tower.lora_alpha, f"--method.{modality}.trained lora")
    return model, architecture


def _part(
    architecture: PretrainedConfig, parts: _Parts, projected: bool
) -> tuple[Any, PretrainedConfig, Mapping[str, str] | None]:
    """The class that makes the tower, its configuration, and how its weights are named in those of the whole model."""
    part = parts.get((architecture.model_type, projected))
    if part is None and hasattr(architecture, "vision_config"):
        known = ", ".join(dict.fromkeys(kind for kind, _ in parts if not kind.endswith("_model")))
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


def statistics(tower: PretrainedVision, config: PretrainedConfig) -> tuple[Tensor, Tensor]:
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
