"""The part of a model card that says how its ONNX files are used without torch and without this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2

from xmr_e2e.data.text import UNKNOWN
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.models.model_folder import CARD
from xmr_e2e.models.onnx_inputs import onnx_inputs
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.received import shortened

TEMPLATE = Path(__file__).with_name("onnx_guide.md")


def add_guide(model: SavedModel, folder: Path, worst: Mapping[str, float]) -> None:
    """Put the section at the end of the exported model's card."""
    card = folder / CARD
    write_atomically(card, card.read_bytes() + f"\n{onnx_guide(model, worst)}".encode())


def onnx_guide(model: SavedModel, worst: Mapping[str, float]) -> str:
    """The section, as Markdown, with a script for pictures and texts.

    worst: modality -> largest difference from torch, as `save_onnx` returns it.
    """
    names = {onnx_inputs(model, name).inputs[0].name: name for name in model.method.modalities}
    tokenizer = model.tokenizer.to_document() if model.tokenizer else {}
    limits = (model.data.max_tokens, tokenizer.get("longest"))
    longest = min(_whole(limit) for limit in limits if limit)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        differences=", ".join(f"{name} {difference:.1e}" for name, difference in worst.items()),
        pixels=names.get("pixels"),
        tokens=names.get("ids"),
        kind=tokenizer.get("kind"),
        side=_whole(model.data.load_size),
        interpolation="BICUBIC" if model.data.interpolation == "bicubic" else "BILINEAR",
        max_tokens=longest,
        empty=_whole(tokenizer.get("empty", UNKNOWN)),
    )


def _whole(number: object) -> int:
    """A number for the script, and nothing else, whoever made the model."""
    if type(number) is not int:
        raise XmrError(f"the model's description has {shortened(number)} where a whole number is due")
    return number
