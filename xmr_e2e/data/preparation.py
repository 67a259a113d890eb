"""The way of a batch's inputs to what networks see, on the device: one place for all media."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.data.augment import Augment, prepare_evaluation, prepare_training
from xmr_e2e.data.augment_frames import augment_frames, prepare_frames
from xmr_e2e.data.augment_points import PointAugment, augment_points
from xmr_e2e.data.augment_sound import SoundAugment, augment_sound
from xmr_e2e.data.inputs import Waveforms


@dataclass(frozen=True)
class Preparation:
    """The way of inputs from the loader to networks.

    Args:
        size: side of the crops of pictures, in pixels.
        frame_size: of those of videos' frames.
        seed: of the augmentation.
    """

    size: int
    frame_size: int = 112
    augment: Augment = Augment()
    sounds: SoundAugment = SoundAugment()
    points: PointAugment = PointAugment()
    seed: int = 0

    def for_evaluation(self, item: Any) -> Any:
        """A modality's inputs as networks see them in evaluation: of pixels the center crop, normalized."""
        if not is_raw_pixels(item):
            return item
        return prepare_evaluation(item, self.size) if item.dim() == 4 else prepare_frames(item, self.frame_size)

    def for_training(self, item: Any, epoch: int, positions: Tensor) -> Any:
        """A modality's inputs as networks see them in training: augmented by seed, epoch and the samples' positions
        (n,), and normalized."""
        chance: dict[str, Any] = {"seed": self.seed, "epoch": epoch, "positions": positions}
        if isinstance(item, Waveforms):
            return augment_sound(item, self.sounds, **chance)
        if is_points(item):
            return augment_points(item, self.points, **chance)
        if not is_raw_pixels(item):
            return item
        if item.dim() == 4:
            return prepare_training(item, self.size, self.augment, **chance)
        return augment_frames(item, self.frame_size, self.augment, **chance)

    def side_of(self, images: Tensor) -> int:
        """In pixels, of pictures (n, 3, h, w) or clips (n, f, 3, h, w) as networks will see them."""
        if not is_raw_pixels(images):
            return images.shape[-1]
        return self.size if images.dim() == 4 else self.frame_size


def is_raw_pixels(item: Any) -> bool:
    """True for pictures (n, 3, h, w) and clips (n, f, 3, h, w) as they come from the loader, the only uint8 inputs."""
    return isinstance(item, Tensor) and item.dtype == torch.uint8


def is_points(item: Any) -> bool:
    """True for points (n, p, 3): no other inputs are tensors of three dimensions."""
    return isinstance(item, Tensor) and item.dim() == 3
