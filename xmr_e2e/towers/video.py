"""Towers of videos: torchvision's video networks by name, and the mean over the frames of any image network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import FractionBelow1
from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.batch_norm import FreezableBatchNorm
from xmr_e2e.towers.of_images import ManyImagesEncoder, build_image_network
from xmr_e2e.towers.sizes import run_on_sizes

if TYPE_CHECKING:  # torchvision takes seconds to import, which --help need not take
    from xmr_e2e.towers.video_networks import VideoNetwork

_TRIAL_FRAMES = 16
"""what all of torchvision's video networks take"""


@dataclass(frozen=True)
class VideoTower(TowerConfig):
    """A video network of torchvision by name, up to the input of its classification layer."""

    kind = "torchvision"
    input_kind = "frames"

    name: str = "r3d_18"
    """r3d_18, mc3_18 and r2plus1d_18 (residual networks over space and time, Tran et al., 2018), s3d (Xie et al.,
    2018), mvit_v1_b, mvit_v2_s, swin3d_t, swin3d_s, swin3d_b. The first three were trained on 112 pixels, the others on
    224; mvit takes 224 and 16 frames only"""
    weights: str = "kinetics"
    """kinetics (torchvision's default ones, of Kinetics-400; downloaded once), none (random), a .pth, .pt or
    .safetensors file with a state dict, whose classification layer is ignored, or a run or exported model, whose tower
    is taken"""
    dropout: FractionBelow1 = 0.0
    """share that the network's own dropout layers drop in training"""
    freeze_batch_norm: bool = False
    """normalize by the statistics that came with the weights in training, too, not by each batch's; as for the image
    tower"""

    def build(self, dataset: DatasetInfo, modality: str) -> VideoEncoder:
        """The tower, initialised from torch's global generator where no weights are loaded.

        Raises XmrError for an unknown name, weights that cannot be had, read or fitted, and an impossible image size.
        """
        from xmr_e2e.towers.video_networks import load_video_network

        encoder = VideoEncoder(load_video_network(self.name, self.weights, modality), self.name)
        encoder.freezes_batch_norm = self.freeze_batch_norm
        for layer in encoder.modules():
            if isinstance(layer, nn.Dropout) and layer.p:
                layer.p = self.dropout
        _try_size(encoder, dataset)
        return encoder


class VideoEncoder(FreezableBatchNorm):
    """Frames (n, f, 3, h, w), RGB, normalised by ImageNet's statistics -> (n, dim).

    `network` keeps torchvision's names of its parts.
    """

    dim: int

    def __init__(self, video: VideoNetwork, name: str) -> None:
        from xmr_e2e.towers.networks import Renormalize

        super().__init__()
        self.name = name
        self.dim = video.dim
        self.network = video.network
        self.frames = video.frames
        self.renormalize = Renormalize(video.mean, video.std)

    def forward(self, frames: Tensor) -> Tensor:
        self.frames.check(frames.shape[1], self.name)
        features: Tensor = self.network(self.renormalize(frames).transpose(1, 2))
        return features


@dataclass(frozen=True)
class MeanOfFrames(TowerConfig):
    """The mean over a clip's frames of what an image network makes of each: a classifier of torchvision or timm by
    name."""

    kind = "mean_of_frames"
    input_kind = "frames"

    name: str = "resnet18"
    """any classifier by its torchvision name, timm:NAME, or one of this project's, as for the image tower"""
    weights: str = "imagenet"
    """imagenet, none (random), a file with a state dict, as for the image tower, or a run or exported model, whose
    tower is taken"""
    dropout: FractionBelow1 = 0.0
    """share that the network's own dropout layers drop in training"""
    freeze_batch_norm: bool = False
    """normalize by the statistics that came with the weights in training, too, not by each batch's; as for the image
    tower"""

    def build(self, dataset: DatasetInfo, modality: str) -> FramesEncoder:
        """Raises XmrError as `ImageTower.build`."""
        return FramesEncoder(build_image_network(self, dataset, modality, dataset.frame_size, "--data.video.size"))


class FramesEncoder(ManyImagesEncoder):
    """Frames (n, f, 3, h, w), RGB, normalised by ImageNet's statistics -> (n, dim)."""

    def forward(self, frames: Tensor) -> Tensor:
        return self.encode(frames).mean(dim=1)


def _try_size(encoder: VideoEncoder, dataset: DatasetInfo) -> None:
    """Raise XmrError where frames of this size are none that the network takes."""
    size = dataset.frame_size

    def example() -> Tensor:
        return torch.zeros(1, _TRIAL_FRAMES, 3, size, size)

    try:
        # Shapes alone: a clip takes a second of a processor core.
        run_on_sizes(encoder.eval(), example)
    except (RuntimeError, ValueError) as error:
        raise XmrError(
            f"{encoder.name} cannot take frames of {size} pixels ({first_line(error)}); set --data.video.size to what "
            "it was trained on, 112 or 224"
        ) from error
    finally:
        encoder.train()
