"""Torchvision's video networks without their classification layer; their weights, and the clips that they take."""

from __future__ import annotations

import http.client
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import video

from xmr_e2e.errors import XmrError
from xmr_e2e.towers.networks import copy_weights, drop_classification_layer, read_state_dict

_CLASSES = 400
"""of Kinetics"""


class FrameCount(NamedTuple):
    """The numbers of frames that a network takes."""

    least: int
    is_only: bool
    """True where it takes no more"""

    def check(self, count: int, name: str) -> None:
        """Raise XmrError where it does not take so many."""
        if count < self.least or (self.is_only and count != self.least):
            words = "only" if self.is_only else "at least"
            raise XmrError(f"{name} takes clips of {words} {self.least} frames, not {count}: set --data.video.frames")


class VideoNetwork(NamedTuple):
    """A network on clips (n, 3, f, h, w), and what its weights were trained on."""

    network: nn.Module
    dim: int
    frames: FrameCount
    mean: Tensor
    """(3,), as std"""
    std: Tensor


def load_video_network(name: str, weights: str, modality: str) -> VideoNetwork:
    """The network, with the identity for its classification layer.

    Args:
        weights: kinetics, none, or a file with a state dict.
        modality: whose options errors name.

    Raises:
        XmrError: an unknown name, or weights that cannot be had, read or fitted.
    """
    known = models.list_models(module=video)
    if name not in known:
        close = get_close_matches(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}."
        raise XmrError(f"--method.{modality}.name {name}: torchvision has no such video network; {hint}")
    published: Any = models.get_model_weights(name).DEFAULT
    network = _create(name, published if weights == "kinetics" else None, modality)
    head, dim = drop_classification_layer(network, _CLASSES)
    if weights not in ("kinetics", "none"):
        _load(network, Path(weights), f"{head}.", modality)
    preset = published.transforms()
    frames = FrameCount(published.meta.get("min_temporal_size", 1), isinstance(network, video.MViT))
    return VideoNetwork(network, dim, frames, torch.tensor(preset.mean), torch.tensor(preset.std))


def _create(name: str, weights: Any, modality: str) -> nn.Module:
    try:
        network: nn.Module = models.get_model(name, weights=weights)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        if weights is None:
            raise
        raise XmrError(
            f"The Kinetics weights of {name} cannot be had from {weights.url}: {error}. Either start from random "
            f"weights (--method.{modality}.weights none), or name a file with a state dict of this network "
            f"(--method.{modality}.weights FILE.pth)."
        ) from error
    return network


def _load(network: nn.Module, path: Path, head: str, modality: str) -> None:
    """Copy a file's weights into the network, but those of its classification layer."""
    state = read_state_dict(path, f"--method.{modality}.weights", "kinetics")
    copy_weights(network, {key: value for key, value in state.items() if not key.startswith(head)}, path, modality)
