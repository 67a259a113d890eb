"""Random variation of training shapes, on the device: rotation, jitter, and dropped points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from xmr_e2e.bounds import Fraction, FractionBelow1, NotNegative
from xmr_e2e.data.device_randomness import uniform_rows, uniform_within

Axis: TypeAlias = Literal["x", "y", "z"]
AXES: tuple[Axis, ...] = ("x", "y", "z")
_STREAM = 90
"""of the first of five random numbers; sounds have lower ones, texts higher ones"""


@dataclass(frozen=True)
class PointAugment:
    """Random variation of a training shape from epoch to epoch."""

    rotation: Fraction = 1.0
    """shapes are turned about the vertical axis by up to this share of a whole turn"""
    up: Axis = "z"
    """the vertical axis: z in ModelNet's files, y in ShapeNet's and in .glb"""
    jitter: NotNegative = 0.01
    """standard deviation by which each coordinate of each point varies, with five of them at most; a shape's radius
    is 1"""
    dropout: FractionBelow1 = 0.0
    """up to this share of the points is dropped: they become copies of the first"""


def augment_points(points: Tensor, options: PointAugment, *, seed: int, epoch: int, positions: Tensor) -> Tensor:
    """Points (n, p, 3), turned about the vertical axis, moved a little each, and some of them dropped.

    All depends on (seed, epoch, a sample's position) and a point's number in its sample alone.

    Args:
        positions: (n,) int64.
    """
    turn, share = uniform_rows(2, _STREAM, seed=seed, epoch=epoch, positions=positions, like=points)
    if options.rotation:
        points = rotate(points, 2 * math.pi * options.rotation * turn, options.up)
    count = points.shape[1]
    if options.jitter:
        first, second = (
            uniform_within(3 * count, stream, seed=seed, epoch=epoch, positions=positions, like=points)
            for stream in (_STREAM + 2, _STREAM + 3)
        )
        points = points + options.jitter * _normal(first, second).clamp(-5, 5).view_as(points)
    if options.dropout:
        chances = uniform_within(count, _STREAM + 4, seed=seed, epoch=epoch, positions=positions, like=points)
        is_dropped = chances < (options.dropout * share)[:, None]
        points = torch.where(is_dropped[:, :, None], points[:, :1], points)
    return points


def rotate(points: Tensor, angles: Tensor, up: Axis) -> Tensor:
    """Points (n, p, 3), turned about an axis by angles (n,) in radians, counterclockwise as seen from its end."""
    axis = AXES.index(up)
    right, forward = (axis + 1) % 3, (axis + 2) % 3
    sine, cosine = angles.sin()[:, None], angles.cos()[:, None]
    turned = list(points.unbind(2))
    turned[right] = cosine * points[:, :, right] - sine * points[:, :, forward]
    turned[forward] = sine * points[:, :, right] + cosine * points[:, :, forward]
    return torch.stack(turned, dim=2)


def _normal(first: Tensor, second: Tensor) -> Tensor:
    """Numbers of the standard normal distribution, out of two that are uniform in [0, 1) (Box and Muller, 1958)."""
    return (-2 * torch.log1p(-first)).sqrt() * torch.cos(2 * math.pi * second)
