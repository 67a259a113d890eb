"""Recipes and their datasets made small: what is trained is the recipe, in seconds.

Sizes alone are made small: pictures, batches, epochs, the widths in LIMITS, the layers of VGG and the hidden
fully-connected ones of AlexNet, and the blocks of residual networks, one to a stage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import vgg

from tests.helpers.raw_media import write_clip, write_shape, write_sound
from xmr_e2e.data.media import Shapes, Sounds, Videos
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.towers.text import MeanWords

CLASSES = ("cat", "dog")
SAMPLES = {"train": 8, "val": 4, "test": 4}
BATCH = 4  # so that an epoch has two steps
MULTI_LABEL = ("nuswide_tc21", "nuswide_tc21_official", "mirflickr", "mscoco", "flickr8k_concepts")
FEATURES = {"audio": 29, "video": 40, "shape3d": 47}
WRITTEN: dict[str, Callable[[Path, int], Path]] = {
    "audio": lambda path, number: write_sound(path.with_suffix(".wav"), 300 + 100 * number, seed=number),
    "video": lambda path, number: write_clip(path.with_suffix(".mp4"), (200, 20 * number, 40), seed=number),
    "shape3d": lambda path, number: write_shape(path.with_suffix(".off"), 1 + number, seed=number),
}
"""modality -> what writes a raw file of it, with which number"""
LIMITS = {"hidden": 512, "dim": 256, "layers": 2, "feedforward": 512}
"""largest widths and depths of methods and towers here, by the option's name"""
HIDDEN_FC = 64
"""units of VGG's and AlexNet's hidden fully-connected layers here, 4096 in truth: six in seven of VGG-19's weights"""
VGG_SHARE = 8
"""times as many channels in VGG's convolutions in truth: of all of them, each checkpoint has 80 MB and three copies"""
BUILD = models.get_model
SMALL_MEDIA: dict[str, Any] = {"audio": Sounds(seconds=0.3, windows=2), "video": Videos(4, 16), "shape3d": Shapes(64)}
SMALLEST_PICTURES = {"alexnet": 64}
"""sides in pixels for networks that do not take 32"""


# ---- miniatures of the datasets


def make_samples(
    folder: Path, *, multi_label: bool, modalities: tuple[str, ...], raw: tuple[str, ...] = ()
) -> Iterator[RawSample]:
    """Pairs of picture and texts, and for each further modality as many samples of its own, with features or raw."""
    random = np.random.default_rng(0)
    for split, count in SAMPLES.items():
        for number in range(count):
            labels = CLASSES if multi_label and number % 3 == 2 else (CLASSES[number % 2],)
            image = folder / f"{split}_{number}.png"
            Image.fromarray(random.integers(0, 256, (80, 96, 3), np.uint8)).save(image)
            texts = (f"a small picture of one {labels[0]} in the park", f"the {labels[-1]} again")
            yield RawSample(image.name, split, image, texts, labels)
            for name in modalities:
                features = {name: random.normal(size=FEATURES[name]).astype(np.float32)}
                yield RawSample(f"{split}_{number}.{name}", split, labels=labels, features=features)
            for name in raw:
                media = {name: WRITTEN[name](folder / f"{split}_{number}", number)}
                yield RawSample(f"{split}_{number}.{name}", split, labels=labels, media=media)


def miniatures(folder: Path) -> Callable[[Experiment], Path]:
    """A function that gives the shards of a miniature of an experiment's dataset, which it builds below this folder."""

    @cache
    def build(multi_label: bool, modalities: tuple[str, ...], raw: tuple[str, ...]) -> Path:
        own = folder / "-".join(["several" if multi_label else "one", *modalities, *(f"raw_{name}" for name in raw)])
        own.mkdir()
        samples = list(make_samples(own, multi_label=multi_label, modalities=modalities, raw=raw))
        required = () if modalities or raw else ("image", "text")
        options = BuildOptions(workers=1)
        out = own / "shards"
        build_shards(out, dataset="tiny", classes=CLASSES, samples=samples, required=required, options=options)
        return out

    def choose(experiment: Experiment) -> Path:
        further = {name: tower.input_kind for name, tower in experiment.method.towers.items() if name in FEATURES}
        published = tuple(name for name, kind in further.items() if kind == "vector")
        raw = tuple(name for name in further if name not in published)
        return build(experiment.data.shards.name in MULTI_LABEL, published, raw)

    return choose


# ---- the recipe made small


def narrow_hidden(network: nn.Module) -> nn.Module:
    """VGG or AlexNet with HIDDEN_FC units in its hidden fully-connected layers."""
    before = next(layer.in_features for layer in network.classifier if isinstance(layer, nn.Linear))
    for place, layer in enumerate(network.classifier):
        if isinstance(layer, nn.Linear):
            width = HIDDEN_FC if layer.out_features == 4096 else layer.out_features
            network.classifier[place] = nn.Linear(before, width)
            before = width
    return network


def one_block(network: nn.Module) -> nn.Module:
    """A residual network with the first block of each stage alone: half of the weights, which checkpoints write."""
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        del stage[1:]
    return network


def narrow_vgg19() -> nn.Module:
    """VGG-19 of few channels, drawn as torchvision draws it, and with the same hidden layers as `narrow_hidden` has."""
    widths = [width if width == "M" else int(width) // VGG_SHARE for width in vgg.cfgs["E"]]
    with torch.device("meta"):  # the full fully-connected layers are drawn for nothing
        network = vgg.VGG(nn.Sequential(), init_weights=False)
    network.features = vgg.make_layers(widths)  # type: ignore[arg-type]
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    network.classifier[0] = nn.Linear(7 * 7 * int(widths[-2]), HIDDEN_FC)
    return narrow_hidden(network)


NARROWED: dict[str, Callable[[], nn.Module]] = {
    "vgg19": narrow_vgg19,
    "alexnet": lambda: narrow_hidden(BUILD("alexnet")),
    "resnet18": lambda: one_block(BUILD("resnet18")),
    "r3d_18": lambda: one_block(BUILD("r3d_18")),
}


@cache
def narrowed(name: str) -> nn.Module:
    """torchvision's network, made small."""
    return NARROWED[name]()


def build_narrow(name: str, weights: None = None, **options: Any) -> nn.Module:
    """In place of torchvision's `get_model`: networks of NARROWED are small."""
    assert weights is None
    return copy.deepcopy(narrowed(name)) if name in NARROWED else BUILD(name, **options)


def narrow() -> None:
    """In a process of its own: its networks are narrow from now on."""
    models.get_model = build_narrow


def shrunk(config: Any) -> Any:
    """The configuration without pretrained weights and with nothing above LIMITS."""
    changes: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changes[field.name] = shrunk(value)
        elif field.name == "weights":
            changes[field.name] = "none"
        elif field.name in LIMITS:
            changes[field.name] = min(value, LIMITS[field.name])
    return replace(config, **changes)


def within(method: Any, width: int) -> Any:
    """With no more canonical variates than the words' vectors have numbers, where their mean is a text's features."""
    too_many = isinstance(method.text, MeanWords) and getattr(method, "dim", 0) > width
    return replace(method, dim=width) if too_many else method


def small(experiment: Experiment, shards: Path) -> Experiment:
    """The recipe with its method, towers, stages, optimiser and precision, at the size of the miniature."""
    data, train, method = experiment.data, experiment.train, experiment.method
    size = SMALLEST_PICTURES.get(getattr(method.towers["image"], "name", ""), 32)
    words = replace(data.words, dim=8)
    return replace(
        experiment,
        data=replace(
            data, shards=shards, image_size=size, load_size=size + size // 8, words=words, workers=0, **SMALL_MEDIA
        ),
        method=within(shrunk(method), words.dim),
        # Without decay, which would move weights that get no gradient.
        optimizer=replace(experiment.optimizer, weight_decay=0.0),
        train=replace(train, epochs=1, batch_size=BATCH, micro_batches=min(2, train.micro_batches)),
    )
