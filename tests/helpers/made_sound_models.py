"""Audio transformers with random weights, each with its feature extractor."""

from __future__ import annotations

from typing import Any

import transformers

from tests.helpers.made_transformers import SMALL


def ast() -> Any:
    config = transformers.ASTConfig(**SMALL, max_length=60, num_mel_bins=32, time_stride=8, frequency_stride=8)
    extractor = transformers.ASTFeatureExtractor(max_length=60, num_mel_bins=32, mean=-3.0, std=2.0)
    return transformers.ASTModel(config), extractor


def wav2vec2(**options: Any) -> Any:
    layers = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
    config = transformers.Wav2Vec2Config(**SMALL, **layers, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    return transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor(**options)


def raw_wav2vec2() -> Any:
    return wav2vec2(do_normalize=False)


def clap(fused: bool = False) -> Any:
    audio = {
        "patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2, "enable_fusion": fused, "fusion_type": "aff_2d" if fused else None,
        "projection_dim": 8, "aff_block_r": 1, "initializer_factor": 20.0,
    }  # fmt: skip
    config = transformers.ClapConfig(audio_config=audio, text_config={**SMALL, "vocab_size": 9}, projection_dim=8)
    truncation = "fusion" if fused else "rand_trunc"
    return transformers.ClapModel(config), transformers.ClapFeatureExtractor(truncation=truncation, frequency_min=50)


def fused_clap() -> Any:
    return clap(fused=True)
