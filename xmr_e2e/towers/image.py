"""Image towers: classifiers of torchvision, timm and this project, less their classification layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmr_e2e.bounds import FractionBelow1
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.batch_norm import FreezableBatchNorm
from xmr_e2e.towers.sizes import run_on_sizes


@dataclass(frozen=True)
class ImageTower(TowerConfig):
    """A classifier of torchvision or timm by name, up to the input of its classification layer."""

    kind = "torchvision"
    input_kind = "pixels"

    name: str = "alexnet"
    """Any classifier by its torchvision name (alexnet, vgg19, resnet50, ...); timm:NAME, any of timm, with its own mean
    and deviation of pictures; alexnet_paper: the two-group AlexNet of 96-256-384-384-256 kernels with local response
    normalisation (Krizhevsky et al., 2012); efficientnet_lite0: for small machines, with weights from a file; or
    resnet10_slim: a smaller residual network, from random weights."""
    weights: str = "imagenet"
    """imagenet (torchvision's default ones, or timm's own; downloaded once), none (random), a .pth, .pt or .safetensors
    file with a state dict, whose classification layer is ignored, or a run or exported model, whose tower is taken."""
    fresh_fc: bool = False
    """Draw the fully-connected layers again from N(0, 0.01), biases 0, after loading weights, as ALSCOR (Sec. 5.2)
    does. Without effect on weights none."""
    dropout: FractionBelow1 = 0.0
    """Share that the network's own dropout layers drop in training, for AlexNet and VGG before and after their hidden
    fully-connected layers: 0.5 as they were published, 0 where heads take the features as they are."""
    freeze_batch_norm: bool = False
    """Normalize by the statistics that came with the weights in training, too, not by each batch's; scale and shift
    still learn. For fine-tuning: heads that learnt behind the frozen network find it as it was, at any batch size."""

    def build(self, dataset: DatasetInfo, modality: str) -> ImageEncoder:
        """The tower, initialised from torch's global generator where no weights are loaded.

        Only vision transformers are built for one image size (their position embeddings are interpolated). AlexNet
        needs 63 pixels or more, VGG 32.

        Raises XmrError for an unknown name, weights that cannot be had, read or fitted, and an impossible image size.
        """
        from xmr_e2e.towers.networks import (
            fit_image_size,
            load_network,
            statistics,
        )  # with torchvision, seconds that --help need not take

        network, dim = load_network(self.name, self.weights)
        if self.fresh_fc and self.weights != "none":
            _redraw_fc(network, self.name)
        _set_dropout(network, self.dropout)
        fit_image_size(network, self.name, dataset.image_size)
        encoder = ImageEncoder(network, dim, *statistics(self.name), freeze_batch_norm=self.freeze_batch_norm)
        try_image_size(encoder, self.name, dataset)
        return encoder


class ImageEncoder(FreezableBatchNorm):
    """Images (n, 3, h, w), RGB, normalised by ImageNet's statistics -> (n, dim).

    `network` keeps torchvision's names of its parts: network.features, network.classifier, network.layer4, ...
    """

    dim: int

    def __init__(
        self, network: nn.Module, dim: int, mean: Tensor, std: Tensor, *, freeze_batch_norm: bool = False
    ) -> None:
        """mean, std: (3,), the normalisation that the network itself was trained with."""
        from xmr_e2e.towers.networks import Renormalize

        super().__init__()
        self.dim = dim
        self.network = network
        self.renormalize = Renormalize(mean, std)
        self.freezes_batch_norm = freeze_batch_norm

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(_in_fast_order(self.renormalize(images)))
        return features


def _in_fast_order(images: Tensor) -> Tensor:
    """The same images with the channels last in memory, where convolutions are faster so: on CPUs always, on GPUs in
    half precision. The weights stay as files have them; a convolution follows its input."""
    is_half = images.is_cuda and (images.dtype != torch.float32 or torch.is_autocast_enabled("cuda"))
    return images.contiguous(memory_format=torch.channels_last) if images.is_cpu or is_half else images


def try_image_size(encoder: nn.Module, name: str, dataset: DatasetInfo) -> None:
    """Raise XmrError where pictures of this size are too small for the network's poolings."""
    image_size = dataset.image_size
    try:
        with torch.no_grad():
            if dataset.is_saved:
                run_on_sizes(encoder.eval(), lambda: torch.zeros(1, 3, image_size, image_size))
            else:
                encoder.eval()(torch.zeros(1, 3, image_size, image_size))
    except RuntimeError as error:
        raise XmrError(f"{name} cannot take images of {image_size} pixels ({error}); set --data.image-size") from error
    finally:
        encoder.train()


def _set_dropout(network: nn.Module, share: float) -> None:
    """Of the layers that drop something as published; others are there for options that nobody took."""
    for layer in network.modules():
        if isinstance(layer, nn.Dropout) and layer.p:
            layer.p = share


def _redraw_fc(network: nn.Module, name: str) -> None:
    classifier = getattr(network, "classifier", nn.Identity())
    layers = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise XmrError(f"--method.image.fresh-fc: {name} has no fully-connected layers below its classification layer.")
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
