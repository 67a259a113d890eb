"""Tiny pretrained transformers, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from tests.helpers.made_transformers import SMALL, VISION
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.data.inputs import Tokens
from xmr_e2e.towers.base import DatasetInfo

TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 20, "pad_token_id": 1}


def clip() -> PreTrainedModel:
    text = {**TEXT, "bos_token_id": 2, "eos_token_id": 3}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8))


def siglip() -> PreTrainedModel:
    text = {**TEXT, "projection_size": 24}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))


def vit() -> PreTrainedModel:
    return transformers.ViTModel(transformers.ViTConfig(**VISION))


def bert() -> PreTrainedModel:
    return transformers.BertModel(transformers.BertConfig(**TEXT))


Save = Callable[[Callable[[], PreTrainedModel]], tuple[str, Any]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a model with random weights to a folder; returns the folder and the model."""

    def write(make: Callable[[], PreTrainedModel]) -> tuple[str, PreTrainedModel]:
        torch.manual_seed(0)
        model = make().eval()
        model.save_pretrained(tmp_path / make.__name__)
        return str(tmp_path / make.__name__), model

    return write


def dataset(image_size: int = 32, tokens: int = 50, width: int = 0) -> DatasetInfo:
    return DatasetInfo(5, False, image_size, words=torch.zeros(tokens, width))


def photos(n: int, size: int = 32) -> Tensor:
    """In [0, 1]."""
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def normalized(images: Tensor, mean: Any = IMAGENET_MEAN, std: Any = IMAGENET_STD) -> Tensor:
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def padded(texts: list[list[int]], to: int) -> Tokens:
    rows = [text + [0] * (to - len(text)) for text in texts]
    return Tokens(torch.tensor(rows), torch.tensor([len(text) for text in texts]))
