"""LoRA: low-rank changes of a transformer's linear layers, which themselves stand still (Hu et al., 2022); by peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra
from xmr_e2e.received import first_line


def add_lora(model: Any, rank: int, alpha: float, option: str) -> None:
    """Put a pair of thin matrices beside each linear layer of a model of transformers, W + alpha / rank B A, of which A
    is drawn and B zero. They alone learn.

    Args:
        option: by which it was asked for, for errors.

    Raises:
        XmrError: peft is not installed, or the model has no linear layers.
    """
    require_extra("lora", option)
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    options: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": _linear_layers(model)}
    try:
        inject_adapter_in_model(LoraConfig(**options), model)
    except ValueError as error:
        raise XmrError(f"{option}: {type(model).__name__} cannot have it: {first_line(error)}") from error


def merge_lora(module: nn.Module) -> nn.Module:
    """Add what LoRA has learned to the linear layers of a module, in place, which are plain ones again."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            module.set_submodule(name, layer.get_base_layer())
    return module.requires_grad_(True)


def _linear_layers(model: nn.Module) -> list[str]:
    """All of them: with those of the attention alone, less is learned at the same rank (Dettmers et al., 2023)."""
    return [name for name, layer in model.named_modules() if type(layer) is nn.Linear]
