"""The encoder of Semantic Sharing: layers of self-attention that normalize first."""

from __future__ import annotations

from torch import nn
from transformers import RobertaPreLayerNormConfig
from transformers.models.roberta_prelayernorm.modeling_roberta_prelayernorm import RobertaPreLayerNormEncoder

DROPOUT = 0.1


def prenorm_encoder(dim: int, layers: int, heads: int, feedforward: int) -> nn.Module:
    """Pre-norm layers with Xavier's initialisation, as the released code has them.

    Args:
        dim: width of the states.
        heads: of each layer's attention.
        feedforward: width of each layer's hidden feed-forward layer.
    """
    config = RobertaPreLayerNormConfig(
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feedforward,
        hidden_act="relu",
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
    )
    config._attn_implementation = "sdpa"  # which transformers' own models choose, and an encoder alone does not
    encoder = RobertaPreLayerNormEncoder(config)
    for parameter in encoder.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return encoder
