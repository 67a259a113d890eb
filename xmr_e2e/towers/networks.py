"""Torchvision's classifiers, AlexNet as published and a slim network, without classification layer; their weights."""

from __future__ import annotations

import http.client
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import BasicBlock
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError
from xmr_e2e.towers import efficientnet, timm_networks
from xmr_e2e.towers.efficientnet import EfficientNetLite0

_CLASSES = 1000
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_WAYS_OUT = (
    "Either start from random weights (--method.image.weights none), "
    "or name a file with a state dict of this network (--method.image.weights FILE.pth)."
)


def load_network(name: str, weights: str) -> tuple[nn.Module, int]:
    """A classifier whose classification layer is replaced by the identity, and the width of its output.

    Args:
        name: torchvision's, one of OWN, or timm's behind "timm:".
        weights: imagenet (of timm's: its own, whatever they were trained on), none, or a file with a state dict.

    Raises:
        XmrError: an unknown name, or weights that cannot be had, read or fitted.
    """
    if name.startswith(timm_networks.PREFIX):
        network, heads, dim = timm_networks.create(name, pretrained=weights == "imagenet", ways_out=_WAYS_OUT)
    else:
        _check_name(name)
        network = _pretrained(name) if weights == "imagenet" else _create(name)
        head, dim = drop_classification_layer(network)
        heads = (head,)
    if weights not in ("imagenet", "none"):
        _load(network, Path(weights), ignored=(*(f"{head}." for head in heads), *_AUXILIARY.get(name, ())))
    return network, dim


class ResponseNorm(nn.LocalResponseNorm):
    """Sec. 3.3: k = 2, n = 5, alpha = 1e-4, beta = .75, where torch divides alpha by n and the paper does not."""

    def __init__(self) -> None:
        super().__init__(size=5, alpha=5e-4, beta=0.75, k=2.0)

    def forward(self, maps: Tensor) -> Tensor:
        # fp32 under autocast: the squares of responses to values of 0 to 255 overflow in fp16.
        kind = "cpu" if maps.is_meta else maps.device.type  # there is no autocast for shapes alone
        with torch.autocast(kind, enabled=False):
            return super().forward(maps.float())


class AlexNetPaper(nn.Module):
    """AlexNet as published (Krizhevsky et al., 2012, Sec. 3): two groups in conv 2, 4 and 5, as on its two GPUs.

    Dropout comes before both hidden fully-connected layers. At 224 pixels the last maps are 6 x 6 as published; maps
    of other sizes are averaged to that. Weights are drawn from N(0, 0.01), biases are 1 in conv 2, 4, 5 and the hidden
    fully-connected layers and 0 elsewhere (Sec. 5).
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True), ResponseNorm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), ResponseNorm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True)),
            *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
            nn.Linear(4096, _CLASSES),
        )
        self._initialize()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits

    def _initialize(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                grouped = isinstance(layer, nn.Conv2d) and layer.groups == 2
                hidden = isinstance(layer, nn.Linear) and layer.out_features != _CLASSES
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.constant_(layer.bias, 1.0 if grouped or hidden else 0.0)


class SlimResNet(nn.Sequential):
    """A residual network of 10 layers and 32 to 256 channels: what two cores train from random weights in minutes.

    torchvision's blocks; a 5 x 5 convolution and a pooling before them divide the picture's side by 4.
    """

    def __init__(self) -> None:
        stem = nn.Conv2d(3, 32, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        blocks = [_block(*widths) for widths in ((32, 32), (32, 64), (64, 128), (128, 256))]
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, _CLASSES)
        super().__init__(*stem, nn.MaxPool2d(3, 2, 1), *blocks, *head)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _block(inside: int, outside: int) -> BasicBlock:
    if inside == outside:
        return BasicBlock(inside, outside)
    shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride=2, bias=False), nn.BatchNorm2d(outside))
    return BasicBlock(inside, outside, stride=2, downsample=shortcut)


OWN = {"alexnet_paper": AlexNetPaper, "efficientnet_lite0": EfficientNetLite0, "resnet10_slim": SlimResNet}
"""The networks that are not torchvision's."""


class Renormalize(nn.Module):
    """From ImageNet's statistics to the network's own: alexnet_paper's and efficientnet_v2_l's differ."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Tensor, std: Tensor, *, saved: bool = False) -> None:
        """mean, std: (3,). saved: they are part of the state dict, and come from there."""
        super().__init__()
        scale = torch.tensor(IMAGENET_STD) / std
        shift = (torch.tensor(IMAGENET_MEAN) - mean) / std
        self.needed = saved or not (torch.equal(scale, torch.ones(3)) and torch.equal(shift, torch.zeros(3)))
        self.register_buffer("scale", scale[:, None, None], persistent=saved)
        self.register_buffer("shift", shift[:, None, None], persistent=saved)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift if self.needed else images

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the network's own, (3,)."""
        scale, shift = self.scale.cpu().flatten(), self.shift.cpu().flatten()
        std = torch.tensor(IMAGENET_STD) / scale
        return torch.tensor(IMAGENET_MEAN) - shift * std, std


def _check_name(name: str) -> None:
    known = [*OWN, *models.list_models(module=models)]
    if name not in known:
        close = get_close_matches(name, known)
        listed = f"known are {', '.join(known)}; and timm:NAME, any of timm."
        hint = f"did you mean {' or '.join(close)}?" if close else listed
        raise XmrError(f"--method.image.name {name}: torchvision has no such network; {hint}")


def _create(name: str, weights: Any = None) -> nn.Module:
    if name in OWN:
        return OWN[name]()
    # Without this the auxiliary heads change what the network returns in training.
    options = {"aux_logits": False} if name in _AUXILIARY else {}
    try:
        network: nn.Module = models.get_model(name, weights=weights, **options)
    except NotImplementedError:  # RegNet computes its widths with tensors, which have no values as shapes alone
        with _widths_on_cpu():
            network = models.get_model(name, weights=weights, **options)
    if isinstance(network, models.GoogLeNet | models.Inception3):
        network.transform_input = True  # their published weights need it, from the hub and from a file alike
    return network


@contextmanager
def _widths_on_cpu() -> Iterator[None]:
    own = BlockParams.from_init_params

    def compute(*numbers: Any, **options: Any) -> BlockParams:
        with torch.device("cpu"):
            return own(*numbers, **options)

    BlockParams.from_init_params = compute
    try:
        yield
    finally:
        BlockParams.from_init_params = own


def _pretrained(name: str) -> nn.Module:
    if name in OWN:
        raise XmrError(f"--method.image.name {name}: torchvision has no weights for it. {_WAYS_OUT}")
    weights: Any = models.get_model_weights(name)
    try:
        return _create(name, weights.DEFAULT)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise XmrError(
            f"The ImageNet weights of {name} cannot be had from {weights.DEFAULT.url}: {error}. {_WAYS_OUT}"
        ) from error


def drop_classification_layer(network: nn.Module, classes: int = _CLASSES) -> tuple[str, int]:
    """Replace the last layer with so many outputs by the identity; returns its name and the width of its input."""
    widths = {
        name: layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        for name, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == classes)
        or (isinstance(layer, nn.Conv2d | nn.Conv3d) and layer.out_channels == classes)
    }
    head, width = list(widths.items())[-1]
    network.set_submodule(head, nn.Identity())
    return head, width


def _load(network: nn.Module, path: Path, ignored: tuple[str, ...]) -> None:
    """Copy a file's weights into the network; keys that start with one of `ignored` are left out."""
    state = efficientnet.with_our_names(read_state_dict(path, "--method.image.weights", "imagenet"))
    found = {key: value for key, value in state.items() if not key.startswith(ignored)}
    # Files from before torch 0.4.1 do not count the batches.
    copy_weights(network, found, path, "image", optional="num_batches_tracked")


def copy_weights(
    network: nn.Module, found: Mapping[str, Tensor], path: Path, modality: str, *, optional: str | tuple[str, ...] = ()
) -> None:
    """Copy the weights that were found in a file into the network.

    optional: endings of the names of those that may be missing.

    Raises:
        XmrError: they are not this network's; says what differs.
    """
    wanted = network.state_dict()
    complaints = [
        *(f"{key} is missing" for key in wanted if key not in found and not key.endswith(optional)),
        *(f"{key} is not in the network" for key in found if key not in wanted),
        *(
            f"{key} is {tuple(value.shape)}, not {tuple(wanted[key].shape)}"
            for key, value in found.items()
            if key in wanted and value.shape != wanted[key].shape
        ),
    ]
    if complaints:
        rest = f", and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise XmrError(
            f"{path} does not hold the weights of this network: {', '.join(complaints[:3])}{rest}. "
            f"Choose the network that it belongs to with --method.{modality}.name."
        )
    network.load_state_dict(found, strict=False)


def read_state_dict(path: Path, option: str, published: str) -> Mapping[str, Tensor]:
    """The parameters in a .pth, .pt or .safetensors file.

    option, published: by which the user names the file, and published weights instead of one; for errors.

    Raises:
        XmrError: no such file, or no state dict in it.
    """
    if not path.is_file():
        raise XmrError(f"{option} {path}: neither {published}, nor none, nor a file that exists.")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise XmrError(f"{path} cannot be read as a state dict (.pth, .pt or .safetensors): {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise XmrError(f"{path} does not hold a state dict, a mapping of parameter names to tensors.")
    # Torchvision's own DenseNet files still have the names of its first release.
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value for key, value in state.items()}


def fit_image_size(network: nn.Module, name: str, image_size: int) -> None:
    """Let a network that knows positions take images of this size.

    Raises:
        XmrError: it cannot.
    """
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.fit_image_size(network, name, image_size)
    if isinstance(network, models.MaxVit) and image_size != 224:
        raise XmrError(f"{name} takes images of 224 pixels only, not {image_size}.")
    if not isinstance(network, VisionTransformer) or image_size == network.image_size:
        return
    if image_size % network.patch_size:
        raise XmrError(f"{name} takes images of a multiple of {network.patch_size} pixels, not {image_size}.")
    state = interpolate_embeddings(image_size, network.patch_size, network.state_dict())
    network.encoder.pos_embedding = nn.Parameter(state["encoder.pos_embedding"])
    network.seq_length = network.encoder.pos_embedding.shape[1]
    network.image_size = image_size


def statistics(name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that the published weights of this network were trained with.

    By name, not by weights: a trained tower that is built again to take its saved weights must see the same input.
    """
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.statistics(name)
    if name == "alexnet_paper":
        # Sec. 2: values of 0 to 255 less their mean. Its N(0, 0.01) weights are too small for inputs of unit variance.
        return torch.tensor(IMAGENET_MEAN), torch.full((3,), 1 / 255)
    if name == "efficientnet_lite0":
        return torch.full((3,), efficientnet.MEAN), torch.full((3,), efficientnet.STD)
    if name in OWN:
        return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    weights: Any = models.get_model_weights(name)
    preset = weights.DEFAULT.transforms()
    return torch.tensor(preset.mean), torch.tensor(preset.std)


def untraced(name: str) -> dict[str, Any]:
    """Options of torch.fx's tracer: modules of a network that it is not to look into, as their way depends on sizes."""
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.untraced()
    return {"leaf_modules": [ResponseNorm, efficientnet.SamePadding]}
