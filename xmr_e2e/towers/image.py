"""Image towers: torchvision's classifiers, and the AlexNet of the AlexNet paper, less their classification layer."""

from __future__ import annotations

import http.client
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError

_CLASSES = 1000
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
_WAYS_OUT = (
    "Either start from random weights (--method.image.weights none), "
    "or name a file with a state dict of this network (--method.image.weights FILE.pth)."
)


@dataclass(frozen=True)
class ImageTower:
    """A convolutional network (or vision transformer) up to the input of its classification layer."""

    name: str = "alexnet"
    """Any classifier by its torchvision name (alexnet, vgg19, resnet50, ...), or alexnet_paper: the two-group AlexNet
    of 96-256-384-384-256 kernels with local response normalisation (Krizhevsky et al., 2012)."""
    weights: str = "imagenet"
    """imagenet (torchvision's default ones, downloaded once), none (random), or a .pth, .pt or .safetensors file
    with a state dict, whose classification layer is ignored."""
    fresh_fc: bool = False
    """Draw the fully-connected layers anew from N(0, 0.01), biases 0, after loading weights, as ALSCOR (Sec. 5.2)
    does. Without effect on weights none."""

    def build(self, *, image_size: int = 224) -> ImageEncoder:
        """The tower, initialised from torch's global generator where no weights are loaded.

        image_size: pixels of the square images to come; only vision transformers are built for one size (their
        position embeddings are interpolated). AlexNet needs 63 pixels or more, VGG 32.

        Raises XmrError for an unknown name, weights that cannot be had, read or fitted, and an impossible image size.
        """
        _check_name(self.name)
        network = _pretrained(self.name) if self.weights == "imagenet" else _create(self.name)
        head, dim = _drop_classification_layer(network)
        if self.weights not in ("imagenet", "none"):
            _load(network, Path(self.weights), ignored=(f"{head}.", *_AUXILIARY.get(self.name, ())))
        if self.fresh_fc and self.weights != "none":
            _redraw_fc(network, self.name)
        _fit_image_size(network, self.name, image_size)
        encoder = ImageEncoder(network, dim, *_statistics(self.name))
        _try_image_size(encoder, self.name, image_size)
        return encoder


def _try_image_size(encoder: ImageEncoder, name: str, image_size: int) -> None:
    """Raise XmrError where pictures of this size are too small for the network's poolings."""
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, 3, image_size, image_size))
    except RuntimeError as error:
        raise XmrError(f"{name} cannot take images of {image_size} pixels ({error}); set --data.image-size") from error
    finally:
        encoder.train()


class ImageEncoder(nn.Module):
    """Images (n, 3, h, w), RGB, normalised by ImageNet's statistics -> (n, dim).

    `network` keeps torchvision's names of its parts: network.features, network.classifier, network.layer4, ...
    """

    dim: int

    def __init__(self, network: nn.Module, dim: int, mean: Tensor, std: Tensor) -> None:
        """mean, std: (3,), the normalisation that the network itself was trained with."""
        super().__init__()
        self.dim = dim
        self.network = network
        self.renormalise = _Renormalise(mean, std)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(self.renormalise(images))
        return features


class _Renormalise(nn.Module):
    """From ImageNet's statistics to the network's own: alexnet_paper's and efficientnet_v2_l's differ."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        scale = torch.tensor(IMAGENET_STD) / std
        shift = (torch.tensor(IMAGENET_MEAN) - mean) / std
        self.needed = not (torch.equal(scale, torch.ones(3)) and torch.equal(shift, torch.zeros(3)))
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift if self.needed else images


class _ResponseNorm(nn.LocalResponseNorm):
    """Sec. 3.3: k = 2, n = 5, alpha = 1e-4, beta = .75, where torch divides alpha by n and the paper does not."""

    def __init__(self) -> None:
        super().__init__(size=5, alpha=5e-4, beta=0.75, k=2.0)

    def forward(self, maps: Tensor) -> Tensor:
        # fp32 under autocast: the squares of responses to values of 0 to 255 overflow in fp16.
        with torch.autocast(maps.device.type, enabled=False):
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
            *(nn.Conv2d(3, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True), _ResponseNorm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), _ResponseNorm(), nn.MaxPool2d(3, 2)),
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
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                grouped = isinstance(layer, nn.Conv2d) and layer.groups == 2
                hidden = isinstance(layer, nn.Linear) and layer.out_features != _CLASSES
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.constant_(layer.bias, 1.0 if grouped or hidden else 0.0)


def _check_name(name: str) -> None:
    known = ["alexnet_paper", *models.list_models(module=models)]
    if name not in known:
        close = get_close_matches(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}."
        raise XmrError(f"--method.image.name {name}: no such network; {hint}")


def _create(name: str, weights: Any = None) -> nn.Module:
    if name == "alexnet_paper":
        return AlexNetPaper()
    # Without this the auxiliary heads change what the network returns in training.
    options = {"aux_logits": False} if name in _AUXILIARY else {}
    network: nn.Module = models.get_model(name, weights=weights, **options)
    if isinstance(network, models.GoogLeNet | models.Inception3):
        network.transform_input = True  # their published weights need it, from the hub and from a file alike
    return network


def _pretrained(name: str) -> nn.Module:
    if name == "alexnet_paper":
        raise XmrError(f"--method.image.name alexnet_paper: torchvision has no weights for it. {_WAYS_OUT}")
    weights: Any = models.get_model_weights(name)
    try:
        return _create(name, weights.DEFAULT)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise XmrError(
            f"The ImageNet weights of {name} cannot be had from {weights.DEFAULT.url}: {error}. {_WAYS_OUT}"
        ) from error


def _drop_classification_layer(network: nn.Module) -> tuple[str, int]:
    """Replace the last layer with 1000 outputs by the identity; returns its name and the width of its input."""
    widths = {
        name: layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        for name, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == _CLASSES)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == _CLASSES)
    }
    head, width = list(widths.items())[-1]
    network.set_submodule(head, nn.Identity())
    return head, width


def _load(network: nn.Module, path: Path, ignored: tuple[str, ...]) -> None:
    """Copy a file's weights into the network; keys that start with one of `ignored` are left out."""
    found = {key: value for key, value in _read_state_dict(path).items() if not key.startswith(ignored)}
    wanted = network.state_dict()
    # Files from before torch 0.4.1 do not count the batches.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    complaints = [
        *(f"{key} is missing" for key in missing),
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
            "Choose the network that it belongs to with --method.image.name."
        )
    network.load_state_dict(found, strict=False)


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise XmrError(f"--method.image.weights {path}: neither imagenet, nor none, nor a file that exists.")
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


def _redraw_fc(network: nn.Module, name: str) -> None:
    classifier = getattr(network, "classifier", nn.Identity())
    layers = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise XmrError(f"--method.image.fresh-fc: {name} has no fully-connected layers below its classification layer.")
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)


def _fit_image_size(network: nn.Module, name: str, image_size: int) -> None:
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


def _statistics(name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that the published weights of this network were trained with.

    By name, not by weights: a trained tower that is built again to take its saved weights must see the same input.
    """
    if name == "alexnet_paper":
        # Sec. 2: values of 0 to 255 less their mean. Its N(0, 0.01) weights are too small for inputs of unit variance.
        return torch.tensor(IMAGENET_MEAN), torch.full((3,), 1 / 255)
    weights: Any = models.get_model_weights(name)
    preset = weights.DEFAULT.transforms()
    return torch.tensor(preset.mean), torch.tensor(preset.std)
