"""uint8 clips to what video networks see, on the device: one crop, flip and color for all frames of a clip."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from xmr_e2e.data.augment import (
    Augment,
    imagenet_statistics,
    normalize,
    prepare_evaluation,
    prepare_training,
)
from xmr_e2e.data.device_randomness import uniform_rows

_COLOR_STREAM = 5
"""of brightness, which contrast follows: those of pictures, so that a clip of one frame is a picture"""


def prepare_frames(frames: Tensor, size: int) -> Tensor:
    """uint8 (n, f, 3, h, w) to the center crops, (n, f, 3, size, size) float32, normalized."""
    return prepare_evaluation(frames.flatten(0, 1), size).unflatten(0, frames.shape[:2])


def augment_frames(frames: Tensor, size: int, options: Augment, *, seed: int, epoch: int, positions: Tensor) -> Tensor:
    """uint8 (n, f, 3, h, h) to random crops, (n, f, 3, size, size) float32, normalized.

    All frames of a clip have the crop, flip and colors that a picture of its sample would have: functions of (seed,
    epoch, the sample's position).

    Args:
        positions: (n,) int64.
    """
    crops = prepare_training(
        frames.flatten(0, 1),
        size,
        replace(options, color=0.0),  # a frame's contrast would be about its own mean, and flicker
        seed=seed,
        epoch=epoch,
        positions=positions.repeat_interleave(frames.shape[1]),
    )
    if options.color:
        random = uniform_rows(2, _COLOR_STREAM, seed=seed, epoch=epoch, positions=positions, like=crops)
        crops = _vary_color(crops, frames.shape[1], 1 + options.color * (2 * random - 1))
    return crops.unflatten(0, frames.shape[:2])


def _vary_color(crops: Tensor, count: int, factors: Tensor) -> Tensor:
    """Brightness and contrast of clips of `count` frames, multiplied by factors (2, n), the latter about a clip's mean;
    crops: (n * count, 3, h, w), normalized."""
    mean, std = imagenet_statistics(crops)
    clips = (crops * std + mean).unflatten(0, (-1, count))
    brightness, contrast = factors.view(2, -1, 1, 1, 1, 1)
    middle = clips.mean(dim=(1, 2, 3, 4), keepdim=True)
    return normalize((((clips - middle) * contrast + middle) * brightness).clamp(0, 1).flatten(0, 1))
