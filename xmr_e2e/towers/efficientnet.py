"""EfficientNet-Lite0: EfficientNet-B0 without what phones compute slowly (Google's release of 2020).

Of EfficientNet-B0 (Tan and Le, 2019, Table 1) it has no squeeze-and-excitation, and ReLU6 in place of swish; stem and
head keep their 32 and 1,280 channels. It was trained in TensorFlow, whose padding depends on the picture's size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

_CLASSES = 1000
_EPSILON, _MOMENTUM = 1e-3, 0.01
"""of TensorFlow's batch normalization there; torch counts the momentum from the other end"""
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Table 1: blocks, side of the kernels, stride of the first block, expansion of the channels, channels"""
_STEM, _HEAD = 32, 1280
MEAN, STD = 127 / 255, 128 / 255
"""of each color in [0, 1], with which the published weights were trained: (x - 127) / 128 of values of 0 to 255"""
SIDE, CROP, INTERPOLATION = 224, 0.875, "bicubic"
"""pixels of a picture's center that the published weights were trained on, its share of the picture's side, and how
pictures were resized"""


class EfficientNetLite0(nn.Sequential):
    """Pictures (n, 3, h, w) -> logits (n, 1000). Parameters have the names of timm's `tf_efficientnet_lite0`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SamePadding(3, _STEM, 3, stride=2)
        self.bn1 = _normalization(_STEM)
        self.act1 = nn.ReLU6(inplace=True)
        widths = pairwise([_STEM, *(stage[-1] for stage in _STAGES)])
        self.blocks = nn.Sequential(*(_stage(inside, *stage) for (inside, _), stage in zip(widths, _STAGES)))
        self.conv_head = nn.Conv2d(_STAGES[-1][-1], _HEAD, 1, bias=False)
        self.bn2 = _normalization(_HEAD)
        self.act2 = nn.ReLU6(inplace=True)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(_HEAD, _CLASSES)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")


class SamePadding(nn.Conv2d):
    """A convolution whose output has 1 / stride of its input's side, rounded up: zeros are added around the input, the
    odd one below and to the right (TensorFlow's "SAME")."""

    def __init__(self, inside: int, outside: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        down, right = (self._missing(maps.shape[axis], axis - 2) for axis in (2, 3))
        return super().forward(F.pad(maps, (right // 2, right - right // 2, down // 2, down - down // 2)))

    def _missing(self, side: int, axis: int) -> int:
        """Zeros to be added to a side, at both ends together."""
        kernel, stride = int(self.kernel_size[axis]), int(self.stride[axis])
        return max(0, (-(-side // stride) - 1) * stride + kernel - side)


class Block(nn.Module):
    """An inverted residual (Sandler et al., 2018): widen, convolve each channel by itself, narrow; and the input added
    where it has the output's shape. Without widening, in the first stage, its parts are numbered from the second on."""

    def __init__(self, inside: int, outside: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        width = inside * expansion
        self.adds_input = stride == 1 and inside == outside
        depthwise = SamePadding(width, width, kernel, stride=stride, groups=width)
        if expansion == 1:
            self.conv_dw, self.bn1 = depthwise, _normalization(width)
            self.conv_pw, self.bn2 = nn.Conv2d(width, outside, 1, bias=False), _normalization(outside)
            self._order: tuple[str, ...] = ("conv_dw", "bn1", "act", "conv_pw", "bn2")
        else:
            self.conv_pw, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), _normalization(width)
            self.conv_dw, self.bn2 = depthwise, _normalization(width)
            self.conv_pwl, self.bn3 = nn.Conv2d(width, outside, 1, bias=False), _normalization(outside)
            self._order = ("conv_pw", "bn1", "act", "conv_dw", "bn2", "act", "conv_pwl", "bn3")
        self.act = nn.ReLU6(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        found = maps
        for name in self._order:
            found = getattr(self, name)(found)
        return found + maps if self.adds_input else found


def with_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's weights by the names that they have here, where it has those of EfficientNet-PyTorch, whose blocks are
    counted through; any other file's as they are."""
    if "_conv_stem.weight" not in state:
        return dict(state)
    renamed = {key: _renamed(key) for key in state}
    return {renamed[key]: value for key, value in state.items()}


_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_WIDENING = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
             "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _renamed(key: str) -> str:
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if not found:
        part, _, rest = key.partition(".")
        return f"{_TOP.get(part, part)}.{rest}"
    places = list(_places())
    number = int(found[1])
    stage, place = places[number] if number < len(places) else (len(_STAGES), number)
    names = _PLAIN if stage == 0 else _WIDENING
    return f"blocks.{stage}.{place}.{names.get(found[2], found[2])}.{found[3]}"


def _places() -> Iterator[tuple[int, int]]:
    """Stage, and place in it, of each block."""
    for stage, (blocks, *_) in enumerate(_STAGES):
        yield from ((stage, place) for place in range(blocks))


def _stage(inside: int, blocks: int, kernel: int, stride: int, expansion: int, outside: int) -> nn.Sequential:
    first = Block(inside, outside, kernel, stride=stride, expansion=expansion)
    others = (Block(outside, outside, kernel, stride=1, expansion=expansion) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


def _normalization(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=_EPSILON, momentum=_MOMENTUM)
