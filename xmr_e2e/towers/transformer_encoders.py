"""The networks of pretrained transformers as towers: what they take, and one row of a sample."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from xmr_e2e.data.inputs import Tokens
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.networks import Renormalize
from xmr_e2e.towers.sizes import run_on_sizes
from xmr_e2e.towers.text import real_words


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


def try_encoder(encoder: nn.Module, example: Callable[[], Any], complaint: str, dataset: DatasetInfo) -> int:
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
