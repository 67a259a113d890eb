"""uint8 batches to what an image network sees, on the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from xmr_e2e.bounds import Bounds, Fraction
from xmr_e2e.configuration import FORMERLY
from xmr_e2e.data.device_randomness import uniform_rows
from xmr_e2e.data.inputs import on_device

# torchvision's ImageNet weights expect RGB in [0, 1], normalised by these.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Augment:
    """Random variation of a training picture from epoch to epoch."""

    min_area: Annotated[float, Bounds(float, above=0, most=1)] = 1.0
    """smallest share of the picture's area that a random crop takes before it is scaled; 1 means plain crops of the
    image size"""
    flip: bool = True
    """mirror every other picture"""
    color: Fraction = field(default=0.0, metadata={FORMERLY: "colour"})
    """brightness and contrast each vary by up to this share"""


def prepare_evaluation(images: Tensor, size: int) -> Tensor:
    """uint8 (n, 3, h, w) to the centre crop, (n, 3, size, size) float32, normalised."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return normalize(images[:, :, top : top + size, left : left + size].float() / 255)


def prepare_training(
    images: Tensor, size: int, options: Augment, *, seed: int, epoch: int, positions: Tensor
) -> Tensor:
    """uint8 (n, 3, h, h) to random crops, (n, 3, size, size) float32, normalised.

    The crop, flip and colours of a sample depend on (seed, epoch, its position) alone, not on the batch or rank it is
    in.
    """
    random = uniform_rows(7, 0, seed=seed, epoch=epoch, positions=positions, like=images)
    grid = F.affine_grid(
        _crops(random, size / images.shape[2], options), [len(images), 3, size, size], align_corners=False
    )
    crops = F.grid_sample(images.float() / 255, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return normalize(_vary_color(crops, random, options.color))


def normalize(images: Tensor) -> Tensor:
    """RGB in [0, 1] to zero mean and unit variance over ImageNet."""
    mean, std = imagenet_statistics(images)
    return (images - mean) / std


def imagenet_statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ImageNet's colors, (1, 3, 1, 1) each, of the type of another tensor and beside
    it."""
    both = on_device(torch.tensor([IMAGENET_MEAN, IMAGENET_STD], dtype=like.dtype), like.device)
    mean, std = both.view(2, 1, 3, 1, 1)
    return mean, std


def _crops(random: Tensor, plain: float, options: Augment) -> Tensor:
    """(n, 2, 3) affine maps from the crop's to the picture's coordinates, both in [-1, 1]."""
    area, aspect, x, y, flip = random[:5]
    if options.min_area < 1:
        side = torch.sqrt(options.min_area + (1 - options.min_area) * area)
        stretch = torch.exp(torch.log(torch.tensor(4 / 3)) * (2 * aspect - 1) / 2)  # aspect ratio in [3/4, 4/3]
        width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    else:
        width = height = torch.full_like(area, plain)
    mirror = torch.where((flip < 0.5) & options.flip, -1.0, 1.0)
    zero = torch.zeros_like(width)
    rows = [width * mirror, zero, (2 * x - 1) * (1 - width), zero, height, (2 * y - 1) * (1 - height)]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def _vary_color(images: Tensor, random: Tensor, amount: float) -> Tensor:
    if not amount:
        return images
    brightness, contrast = (1 + amount * (2 * row.view(-1, 1, 1, 1) - 1) for row in random[5:7])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * brightness).clamp(0, 1)
