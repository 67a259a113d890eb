"""Towers of shapes, read as points on their surface: PointNet, and rendered views."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import Bounds, FractionBelow1, Width
from xmr_e2e.data.augment import normalize
from xmr_e2e.data.augment_points import AXES, Axis
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.batch_norm import FreezableBatchNorm
from xmr_e2e.towers.image import ImageEncoder
from xmr_e2e.towers.of_images import ManyImagesEncoder, build_image_network

_WIDTHS = (64, 64, 64, 128)
"""of PointNet's layers but the last"""
_ALIGNMENT_WIDTHS = (64, 128, 1024)
_ALIGNMENT_HIDDEN = (512, 256)
_EDGE = 1.1
"""half of a view's side, where a shape's radius is 1"""
_FARTHEST = 0.1
"""brightness of a view's farthest point; the nearest is 1 and the ground 0"""


@dataclass(frozen=True)
class PointNet(TowerConfig):
    """PointNet (Qi et al., CVPR 2017): the same layers on each point, and the maximum over the points.

    Layers of 64, 64, 64, 128 and `width`, each with batch normalization and ReLU; the output is the paper's global
    feature, whose classifier is not part of it.
    """

    kind = "pointnet"
    input_kind = "points"

    width: Width = 1024
    """of the last layer, and so of the output"""
    align: bool = False
    """Turn the points by a 3 x 3 matrix that a smaller network of the same kind finds first, the paper's input
    transform. Its transform of features, which needs a loss of its own to stay orthogonal, is left out."""
    freeze_batch_norm: bool = False
    """Normalize by the statistics that came with the weights in training, too, not by each batch's; as for the image
    tower."""

    def build(self, dataset: DatasetInfo, modality: str) -> PointNetEncoder:
        """The tower, initialised from torch's global generator."""
        encoder = PointNetEncoder(self.width, align=self.align)
        encoder.freezes_batch_norm = self.freeze_batch_norm
        return encoder


class PointNetEncoder(FreezableBatchNorm):
    """Points (n, p, 3) -> (n, dim), in whatever order they are."""

    dim: int

    def __init__(self, width: int, *, align: bool) -> None:
        super().__init__()
        self.dim = width
        self.alignment = Alignment() if align else None
        self.network = _shared_layers(3, (*_WIDTHS, width))

    def forward(self, points: Tensor) -> Tensor:
        if self.alignment is not None:
            points = points @ self.alignment(points)
        features: Tensor = self.network(points.transpose(1, 2))
        return features.amax(dim=2)


class Alignment(nn.Module):
    """Points (n, p, 3) -> the matrices (n, 3, 3) that turn them; at the beginning the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.points = _shared_layers(3, _ALIGNMENT_WIDTHS)
        inner, outer = _ALIGNMENT_HIDDEN
        self.shape = nn.Sequential(
            *(nn.Linear(_ALIGNMENT_WIDTHS[-1], inner), nn.BatchNorm1d(inner), nn.ReLU(inplace=True)),
            *(nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU(inplace=True)),
        )
        self.matrix = nn.Linear(outer, 9)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(3).flatten())

    def forward(self, points: Tensor) -> Tensor:
        found: Tensor = self.matrix(self.shape(self.points(points.transpose(1, 2)).amax(dim=2)))
        return found.unflatten(1, (3, 3))


def _shared_layers(inside: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Layers on each of (n, inside, p) points alike."""
    pairs = zip((inside, *widths), widths)
    return nn.Sequential(
        *(
            nn.Sequential(nn.Conv1d(narrow, wide, 1), nn.BatchNorm1d(wide), nn.ReLU(inplace=True))
            for narrow, wide in pairs
        )
    )


@dataclass(frozen=True)
class RenderedViews(TowerConfig):
    """Depth images from views around the vertical axis, and a classifier of torchvision or timm by name, up to the
    input of its classification layer; the maximum over the views (MVCNN, Su et al., ICCV 2015), or their mean."""

    kind = "views"
    input_kind = "points"

    name: str = "resnet10_slim"
    """any classifier by its torchvision name, timm:NAME, or one of this project's, as for the image tower"""
    weights: str = "none"
    """none (random), imagenet, a file with a state dict, as for the image tower, or a run or exported model, whose
    tower is taken"""
    views: Annotated[int, Bounds(int, least=1, most=64)] = 6
    """evenly spaced over a whole turn"""
    side: Annotated[int, Bounds(int, least=16, most=1024)] = 64
    """side in pixels of each view"""
    splat: Annotated[int, Bounds(int, least=0, most=8)] = 1
    """pixels by which a point reaches beyond its own on each side: with few points or large views more, so that
    surfaces are closed"""
    up: Axis = "z"
    """the vertical axis: z in ModelNet's files, y in ShapeNet's and in .glb"""
    pooling: Literal["max", "mean"] = "max"
    """over the views"""
    dropout: FractionBelow1 = 0.0
    """share that the network's own dropout layers drop in training"""
    freeze_batch_norm: bool = False
    """normalize by the statistics that came with the weights in training, too, not by each batch's; as for the image
    tower"""

    def build(self, dataset: DatasetInfo, modality: str) -> ViewsEncoder:
        """The tower, initialised from torch's global generator where no weights are loaded.

        Raises XmrError for an unknown name, weights that cannot be had, read or fitted, and an impossible side.
        """
        return ViewsEncoder(build_image_network(self, dataset, modality, self.side), self)


class ViewsEncoder(ManyImagesEncoder):
    """Points (n, p, 3) within the unit ball -> (n, dim)."""

    def __init__(self, images: ImageEncoder, options: RenderedViews) -> None:
        super().__init__(images)
        self.options = options

    def forward(self, points: Tensor) -> Tensor:
        options = self.options
        views = render_depth(points, options.views, options.side, options.splat, options.up)
        images = normalize(views.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)).unflatten(0, views.shape[:2])
        rows = self.encode(images)
        return rows.amax(dim=1) if options.pooling == "max" else rows.mean(dim=1)


def render_depth(points: Tensor, views: int, side: int, splat: int, up: Axis) -> Tensor:
    """Orthographic depth images (n, views, side, side) of points (n, p, 3) in the unit ball, in fp32.

    The first view looks along the axis before `up` in the circle of x, y and z, which is y where z is up; the next ones
    are counterclockwise as seen from above. A pixel has the brightness of the nearest of its points, from 1 at depth 1
    towards the viewer down to _FARTHEST; the ground is 0. The gradient is that of the depths; where a point falls has
    none.
    """
    right, near, height = _turn(points.float(), views, up)
    across, down = (_to_pixels(each, side) for each in (right, -height))
    brightness = (_FARTHEST + (1 - _FARTHEST) * (near + 1) / 2).clamp(0, 1)
    image = torch.zeros(*near.shape[:2], side * side, device=points.device)
    for x in range(-splat, splat + 1):
        for y in range(-splat, splat + 1):
            column, row = across + x, down + y
            is_inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            place = torch.where(is_inside, row * side + column, 0)
            image = image.scatter_reduce(2, place, torch.where(is_inside, brightness, 0.0), "amax")
    return image.unflatten(2, (side, side))


def _turn(points: Tensor, views: int, up: Axis) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (n, views, p) of points to the right, towards the viewer, and upwards."""
    axis = AXES.index(up)
    across, along = (points[:, None, :, (axis + step) % 3] for step in (1, 2))
    # The shape turns clockwise where the viewer goes around it counterclockwise.
    angles = torch.arange(views, device=points.device)[:, None] * (-2 * math.pi / views)
    right = angles.cos() * across - angles.sin() * along
    away = angles.sin() * across + angles.cos() * along
    return right, -away, points[:, None, :, axis].expand_as(right)


def _to_pixels(coordinates: Tensor, side: int) -> Tensor:
    """Numbers of the pixels, int64, from 0 at -_EDGE."""
    return ((coordinates + _EDGE) * (side / (2 * _EDGE))).floor().long()
