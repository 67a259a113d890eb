"""A model with what LoRA has learned added to its towers' own weights, as it is exported."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from xmr_e2e.models.saved_model import SavedModel


def merged(model: SavedModel) -> SavedModel:
    """The model without LoRA, which nobody needs peft for; the model itself where none of its towers has it. Its
    embeddings are the same but for rounding, its fingerprint is another."""
    changed = {name: tower for name, tower in model.config.towers.items() if tower.trained == "lora"}
    if not changed:
        return model
    from xmr_e2e.towers.lora import merge_lora

    method = copy.deepcopy(model.method)
    for name in changed:
        merge_lora(method.towers[name])
    whole: dict[str, Any] = {name: replace(tower, trained="all") for name, tower in changed.items()}
    config = replace(model.config, **whole)
    return SavedModel(
        config, model.data, model.classes, model.multi_label, model.tokenizer, model.widths, method, model.selection,
        protocol=model.protocol, selected_on=model.selected_on,
    )  # fmt: skip
