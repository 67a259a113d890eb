"""Pretrained transformers by name or folder: CLIP, BLIP-2, ViT, BERT and their relatives (SDCMR, Table V)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from xmr_e2e.bounds import Positive, Width
from xmr_e2e.configuration import BEFORE
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig

if TYPE_CHECKING:  # transformers takes seconds to import, which --help need not take
    from xmr_e2e.towers.transformer_encoders import TextEncoder, VisionEncoder

_ADDED_TOKENS = 64  # that a tokeniser may have beyond its model's, such as <image>; texts do not hold them


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
    lora_rank: Width = 8
    """of --method.MODALITY.trained lora: the width of the low-rank changes"""
    lora_alpha: Positive = 16.0
    """of lora: the changes are multiplied by alpha / rank"""

    def build(self, dataset: DatasetInfo, modality: str) -> VisionEncoder:
        """Position embeddings are interpolated where the images have another size than the model's.

        Raises XmrError for a model that cannot be had or is no vision model, and an impossible image size.
        """
        from xmr_e2e.towers.transformer_encoders import VisionEncoder, try_encoder
        from xmr_e2e.towers.transformer_models import VISION_PARTS, load_model, statistics

        model, architecture = load_model(self, dataset, VISION_PARTS, "pixel_values", modality)
        # A saved model has its statistics among its weights.
        mean_and_std = (torch.zeros(3), torch.ones(3)) if dataset.is_saved else statistics(self, model.config)
        encoder = VisionEncoder(model, mean_and_std, dataset.image_size)
        encoder.architecture = architecture
        encoder.dim = try_encoder(
            encoder,
            lambda: torch.zeros(1, 3, dataset.image_size, dataset.image_size),
            f"{self.name} cannot take images of {dataset.image_size} pixels",
            dataset,
        )
        return encoder


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
    lora_rank: Width = 8
    """of --method.MODALITY.trained lora: the width of the low-rank changes"""
    lora_alpha: Positive = 16.0
    """of lora: the changes are multiplied by alpha / rank"""

    def build(self, dataset: DatasetInfo, modality: str) -> TextEncoder:
        """Raises XmrError for a model that cannot be had or is no text model, and tokens that are not its own."""
        from xmr_e2e.towers.transformer_encoders import TextEncoder, try_encoder
        from xmr_e2e.towers.transformer_models import TEXT_PARTS, load_model

        if dataset.words.shape[1]:
            raise XmrError(
                f"{self.name} reads the tokens of its own tokeniser: set --data.tokens.kind transformers and "
                f"--data.tokens.name {self.name}"
            )
        model, architecture = load_model(self, dataset, TEXT_PARTS, "input_ids", modality)
        encoder = TextEncoder(model)
        encoder.architecture = architecture
        if len(dataset.words) > encoder.known + _ADDED_TOKENS:
            raise XmrError(
                f"{self.name} knows {encoder.known} tokens, and the tokeniser has {len(dataset.words)}: set "
                f"--data.tokens.name {self.name}"
            )
        encoder.dim = try_encoder(
            encoder,
            lambda: Tokens(torch.ones(1, 2, dtype=torch.long), torch.tensor([2])),
            f"{self.name} cannot be used as a text tower",
            dataset,
        )
        return encoder
