"""The pretrained weights that a method would load, and whether they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from huggingface_hub import try_to_load_from_cache
from torchvision import models
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from xmr_e2e.doctor.finding import Finding, in_words, note, problem
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.models.model_folder import find_description
from xmr_e2e.towers.networks import OWN
from xmr_e2e.towers.timm_networks import PREFIX, check_name

_HUB_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"
)  # fmt: skip


RUNS = ("--method.weights", "--method.prior-weights")
"""options that name a run or exported model, never a file"""


def check_weights(method: MethodConfig) -> Iterator[Finding]:
    """A finding for each tower, prior or whole method that does not begin at random."""
    for option, name, weights in _wanted(method, "--method"):
        if weights == "none":
            continue
        if option in RUNS:
            yield _run(option, Path(weights))
        elif weights == "imagenet":
            yield _published(option, name)
        elif weights == "coco":
            yield _download("weights", "Faster R-CNN's from COCO", FasterRCNN_ResNet50_FPN_Weights.COCO_V1)
        elif weights == "pretrained":
            yield _of_the_hub(option, name)
        else:
            yield _file(option, Path(weights))


def _wanted(config: Any, option: str) -> Iterator[tuple[str, str, str]]:
    """Option, network's name and weights of a method or tower, and of what it is made of."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in ("weights", "prior_weights"):
            yield f"{option}.{field.name.replace('_', '-')}", getattr(config, "name", ""), value
        elif is_dataclass(value):
            yield from _wanted(value, f"{option}.{field.name}")


def _published(option: str, name: str) -> Finding:
    if name.startswith(PREFIX):
        try:
            check_name(name)
        except XmrError as error:
            return problem("weights", str(error))
        return note("weights", f"{option}: {name}'s own, which the first start downloads where they are not at hand")
    if name in OWN:
        return problem("weights", f"{option} imagenet: there are none for {name}; set {option} none, or a file")
    try:
        weights: Any = models.get_model_weights(name).DEFAULT
    except (ValueError, KeyError):
        return problem("weights", f"{option}: torchvision knows no network {name!r}")
    return _download(f"{option} imagenet", f"{name}'s from ImageNet", weights)


def _download(option: str, what: str, weights: Any) -> Finding:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    if path.exists():
        return Finding("weights", f"{what}, at hand: {path}")
    size = in_words(weights.meta["_file_size"] * 1e6)
    return note(
        "weights",
        f"{what}, not at hand: the first start downloads {size} from {weights.url}. Where there is no network, put "
        f"that file at {path}",
    )


def _of_the_hub(option: str, name: str) -> Finding:
    if Path(name).is_dir():
        if any((Path(name) / file).exists() for file in _HUB_FILES):
            return Finding("weights", f"{name}, a folder with weights")
        return problem("weights", f"{option}: the folder {name} has none of {', '.join(_HUB_FILES)}")
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in _HUB_FILES):
        return Finding("weights", f"{name}, downloaded before")
    return note("weights", f"{name}, not at hand: the first start downloads it from the Hugging Face hub, which needs "
                "a network")  # fmt: skip


def _file(option: str, path: Path) -> Finding:
    if path.is_file():
        return Finding("weights", f"{path}, {in_words(path.stat().st_size)}")
    if path.is_dir():
        return _run(option, path)
    return problem("weights", f"{option} {path}: there is no such file, run or model")


def _run(option: str, path: Path) -> Finding:
    if not path.is_dir():
        return problem("weights", f"{option} {path}: there is no such run or model; train it first, or name another")
    try:
        find_description(path)
    except XmrError as error:
        return problem("weights", f"{option} {path}: {error}")
    return Finding("weights", f"{path}, a model for {option}")
