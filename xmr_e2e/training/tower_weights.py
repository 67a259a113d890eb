"""Towers, priors, or whole methods, that begin with the weights of another run's, or of an exported model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.configuration import document_type
from xmr_e2e.data.config import Data
from xmr_e2e.data.tokenizers import Tokenizer
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.models.rebuild import require_same_shapes
from xmr_e2e.models.saved_model import SavedModel, load_folder
from xmr_e2e.models.weights import shapes_of
from xmr_e2e.towers.base import TowerConfig

_WORDS = ("none", "imagenet", "coco", "kinetics", "pretrained")
"""values of a tower's weights that are no place"""
_FILES = (".pth", ".pt", ".safetensors")
STARTS = "starts."
"""of a parameter's name, where towers learn before they stand still"""
_NO_ARCHITECTURE = ("weights", "revision", "dropout", "fresh_fc", "freeze_batch_norm", "trained")
"""options of a tower that may differ from those with which its weights were trained"""


def given_towers(config: MethodConfig) -> dict[str, Path]:
    """Modality -> the folder of the run or model whose tower it begins with."""
    if config.weights != "none":
        return dict.fromkeys(config.towers, Path(config.weights))
    weights = {name: getattr(tower, "weights", "none") for name, tower in config.towers.items()}
    return {
        name: Path(given) for name, given in weights.items() if given not in _WORDS and Path(given).suffix not in _FILES
    }


def without_given(config: MethodConfig) -> MethodConfig:
    """The configuration from which the networks are built whose weights come from a run."""
    towers: dict[str, Any] = {name: config.towers[name] for name in given_towers(config)}
    changes = {name: replace(tower, weights="none") for name, tower in towers.items() if hasattr(tower, "weights")}
    return replace(config, **changes, weights="none")


def given_tokenizer(config: MethodConfig, data: Data) -> Tokenizer | None:
    """The tokenizer of the text tower that the method begins with, which reads no other's tokens; None where its words
    are its own.

    Raises:
        XmrError: no model there, or one whose words are of another kind or width than the data's options say.
    """
    given = {name: folder for name, folder in given_towers(config).items() if config.input_kinds[name] == "tokens"}
    for name, folder in given.items():
        option, found = _option(config, name), _open(folder, name, config)
        held = {"--data.tokens": found.data.tokens, "--data.words.dim": found.data.words.dim}
        wanted = {"--data.tokens": data.tokens, "--data.words.dim": data.words.dim}
        for option, value in held.items():
            if wanted[option] != value:
                raise XmrError(
                    f"{option} {folder}: its words are those of {option} {value}, and this training's "
                    f"are to be those of {option} {wanted[option]}: set it as it is there"
                )
        return found.tokenizer
    return None


@torch.no_grad()
def load_given_weights(method: Method, config: MethodConfig) -> None:
    """Give the towers, or the whole method, the weights of those that they begin with.

    Raises:
        XmrError: no model there, without such a tower, or with one of another architecture; says what differs.
    """
    for name, folder in given_towers(config).items():
        found = _open(folder, name, config)
        _require_same_architecture(config, found.config, name, folder)
        theirs, ours = found.method.towers[name], method.towers[name]
        try:
            require_same_shapes(shapes_of(ours), shapes_of(theirs))
        except XmrError as error:
            raise XmrError(f"{_option(config, name)} {folder}: its {name} tower is another: {error}") from error
        ours.load_state_dict(theirs.state_dict())
    if config.weights != "none":
        _load_all(method, load_folder(Path(config.weights)).method, Path(config.weights))


def _load_all(method: Method, theirs: Method, folder: Path) -> None:
    """Towers, heads and all; but for the layers on which towers learned before they stood still."""
    state, own = theirs.state_dict(), method.state_dict()
    given = {name: tensor for name, tensor in state.items() if not name.startswith(STARTS)}
    kept = {name: tensor for name, tensor in own.items() if name.startswith(STARTS)}
    try:
        require_same_shapes(
            {name: tuple(tensor.shape) for name, tensor in own.items() if name not in kept},
            {name: tuple(tensor.shape) for name, tensor in given.items()},
        )
    except XmrError as error:
        raise XmrError(f"--method.weights {folder}: its method is another, or has other widths: {error}") from error
    method.load_state_dict({**kept, **given})


@torch.no_grad()
def load_given_prior(model: SavedModel) -> None:
    """Give a method with a fixed prior (SDML, MARS) that of another training, where its options name one.

    Raises:
        XmrError: no model there, or one without a prior, of other classes or of another width.
    """
    given = getattr(model.config, "prior_weights", "none")
    if given == "none":
        return
    option, found = f"--method.prior-weights {given}", load_folder(Path(given))
    theirs, ours = getattr(found.method, "prior", None), model.method.get_buffer("prior")
    if not isinstance(theirs, Tensor):
        raise XmrError(f"{option}: {found.config.title} has no prior; name a run or exported model of DRCL")
    if found.classes != model.classes:
        raise XmrError(f"{option}: its classes are others, or in another order: train both on the same shards")
    if theirs.shape != ours.shape:
        raise XmrError(
            f"{option}: its prior is of {len(theirs)} dimensions, and this common space of {len(ours)}: set "
            f"--method.dim {len(theirs)}"
        )
    ours.copy_(theirs)


def _option(config: MethodConfig, modality: str) -> str:
    return "--method.weights" if config.weights != "none" else f"--method.{modality}.weights"


def _open(folder: Path, modality: str, config: MethodConfig) -> SavedModel:
    option = f"{_option(config, modality)} {folder}"
    if not folder.is_dir():
        raise XmrError(
            f"{option}: no run folder, no exported model, and none of {', '.join(_WORDS)} or a file of weights"
        )
    found = load_folder(folder)
    if modality not in found.config.towers:
        raise XmrError(f"{option}: that model has no {modality} tower; it has {', '.join(found.config.towers)}")
    return found


def _require_same_architecture(config: MethodConfig, other: MethodConfig, modality: str, folder: Path) -> None:
    option, ours, theirs = f"{_option(config, modality)} {folder}", config.towers[modality], other.towers[modality]
    if type(ours) is not type(theirs):
        raise XmrError(
            f"{option}: its {modality} tower is of the kind {_kind(theirs)}, and this one of {_kind(ours)}: choose the "
            "same kind"
        )
    for name, value in _architecture(theirs):
        if (own := getattr(ours, name)) != value:
            raise XmrError(
                f"{option}: its {modality} tower has {name} {value}, and this one {own}: set "
                f"--method.{modality}.{name.replace('_', '-')} as it is there"
            )


def _architecture(tower: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(tower):
        if field.name not in _NO_ARCHITECTURE:
            yield field.name, getattr(tower, field.name)


def _kind(tower: TowerConfig) -> str:
    return getattr(tower, "kind", document_type(type(tower)).rpartition(":")[2])
