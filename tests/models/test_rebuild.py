"""Configurations of networks that are made again."""

from __future__ import annotations

from dataclasses import replace

from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.models.rebuild import without_weights
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn


def test_a_configuration_without_weights_is_otherwise_the_same() -> None:
    config = Alscor(image=ImageTower("resnet10_slim", weights="imagenet"), text=TextCnn(kernels=8), dim=4)
    bare = without_weights(config)
    assert bare.image == ImageTower("resnet10_slim", weights="none")
    assert replace(bare, image=config.image) == config
