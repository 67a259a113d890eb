"""Networks of images with weights of their own, and pictures for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pictures(size: int) -> Tensor:
    """Whole numbers of 0 to 255."""
    return torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)).float()


def shaken(network: nn.Module) -> nn.Module:
    """Every weight and statistic drawn anew, so that none is without effect: as drawn, biases and means are zero."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def reference_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our weights by the names of EfficientNet-PyTorch, written down part by part."""
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    others = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
              "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
    before = [0, 1, 3, 5, 8, 11, 15]
    found = {}
    for key, value in state.items():
        part, *rest = key.split(".")
        if part == "blocks":
            stage, place, layer, name = rest
            names = first if stage == "0" else others
            found[f"_blocks.{before[int(stage)] + int(place)}.{names[layer]}.{name}"] = value
        else:
            found[f"{top[part]}.{rest[0]}"] = value
    return found
