"""Models of transformers with random weights and a tokeniser of a few words, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.helpers.drawn import COLORS

WORDS = [*("[PAD]", "[UNK]", "[BOS]", "[EOS]"), *"a picture of number here is one more again".split(), *COLORS]
SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.5,
}
VISION = {**SMALL, "hidden_size": 24, "image_size": 32, "patch_size": 8}
TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 20, **SPECIAL}
OPT = {"model_type": "opt", "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def write_clip(folder: Path) -> None:
    """A CLIP and its tokeniser."""
    torch.manual_seed(0)
    clip().save_pretrained(folder)
    write_tokenizer(folder)


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]",
        model_max_length=TEXT["max_position_embeddings"],
    )  # fmt: skip
    fast.save_pretrained(folder)


def clip() -> Any:
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8))


def siglip() -> Any:
    text = {**TEXT, "projection_size": 24}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))


def dinov2() -> Any:
    return transformers.Dinov2Model(transformers.Dinov2Config(**VISION))


def bert() -> Any:
    return transformers.BertModel(transformers.BertConfig(**TEXT))


def blip2() -> Any:
    qformer = {**TEXT, "encoder_hidden_size": 24, "use_qformer_text_input": True}
    language = {**OPT, "vocab_size": 50, "word_embed_proj_dim": 16}
    parts: dict[str, Any] = {"vision_config": VISION, "qformer_config": qformer, "text_config": language}
    config = transformers.Blip2Config(**parts, num_query_tokens=4, image_text_hidden_size=8)
    return transformers.Blip2ForImageTextRetrieval(config)
