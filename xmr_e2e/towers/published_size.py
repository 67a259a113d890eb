"""The pictures that published weights were trained on, beside those that a training gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from xmr_e2e.data.config import Data
from xmr_e2e.towers.base import TowerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


class Published(NamedTuple):
    """The pictures of a network's weights."""

    side: int
    """pixels of the square that the network saw"""
    resized: int
    """pixels of the side to which a picture was brought before its center was cut out"""
    interpolation: str


def published_pictures(tower: TowerConfig) -> Published | None:
    """The pictures of a network of torchvision or timm with weights; None of other towers, or where nothing is said."""
    name, weights = getattr(tower, "name", ""), getattr(tower, "weights", "none")
    if tower.is_pretrained or not name or weights == "none" or tower.input_kind != "pixels":
        return None
    return _of_network(name)


def _of_network(name: str) -> Published | None:
    from xmr_e2e.towers import efficientnet, timm_networks

    if name.startswith(timm_networks.PREFIX):
        found = timm_networks.published(name)
        side = int(found.input_size[-1])
        return Published(side, round(side / found.crop_pct), found.interpolation)
    if name == "efficientnet_lite0":
        side = efficientnet.SIDE
        return Published(side, round(side / efficientnet.CROP), efficientnet.INTERPOLATION)
    return _of_torchvision(name)


def _of_torchvision(name: str) -> Published | None:
    from torchvision import models

    if name not in models.list_models(module=models):
        return None
    weights: Any = models.get_model_weights(name)
    preset = weights.DEFAULT.transforms()
    return Published(preset.crop_size[0], preset.resize_size[0], preset.interpolation.value)


def advise(tower: TowerConfig, data: Data, modality: str) -> str | None:
    """One line that says what to set so that pictures are as those that the weights were trained on; None where they
    are."""
    found = published_pictures(tower)
    if found is None:
        return None
    options = " ".join(f"{option} {value}" for option, value in _other(found, data))
    if not options:
        return None
    name = getattr(tower, "name", "")
    return (
        f"--method.{modality}.name {name}: its weights were trained on pictures of {found.side} pixels, cut out of "
        f"{found.resized}, {found.interpolation}; for the same here: {options}"
    )


def _other(found: Published, data: Data) -> Iterator[tuple[str, Any]]:
    if data.image_size != found.side:
        yield "--data.image-size", found.side
    # Where the size is another, the share of the side that is cut out counts.
    if abs(data.image_size / data.load_size - found.side / found.resized) > 0.02 or data.image_size != found.side:
        yield "--data.load-size", found.resized
    if data.interpolation != found.interpolation and found.interpolation in ("bilinear", "bicubic"):
        yield "--data.interpolation", found.interpolation
