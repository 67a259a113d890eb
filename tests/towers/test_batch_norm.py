"""Frozen batch normalization: towers of every medium give in training what they give in evaluation, and learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from xmr_e2e.data.inputs import Waveforms
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.kinds import tower_kinds
from xmr_e2e.towers.points import PointNet, RenderedViews
from xmr_e2e.towers.sound import SoundTower
from xmr_e2e.towers.video import MeanOfFrames, VideoTower

DATASET = DatasetInfo(5, False, 64, words=torch.zeros(2, 3), frame_size=32)


def sounds(samples: Tensor) -> Waveforms:
    return Waveforms(samples, torch.full(samples.shape[:2], samples.shape[2]))


TOWERS: list[tuple[str, Any, Callable[[], Any]]] = [
    ("image", ImageTower("resnet10_slim", weights="none"), lambda: torch.randn(4, 3, 64, 64)),
    ("image", ImageTower("mobilenet_v3_small", weights="none"), lambda: torch.randn(4, 3, 64, 64)),
    ("audio", SoundTower(mels=32), lambda: sounds(torch.randn(4, 1, 8000))),
    ("video", MeanOfFrames("resnet10_slim", weights="none"), lambda: torch.randn(4, 2, 3, 32, 32)),
    ("video", VideoTower("r3d_18", weights="none"), lambda: torch.randn(2, 4, 3, 32, 32)),
    ("shape3d", PointNet(32, align=True), lambda: torch.randn(4, 50, 3)),
    ("shape3d", RenderedViews(views=2, side=32), lambda: 0.3 * torch.randn(4, 200, 3)),
]


def build(tower: Any, modality: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tower.build(DATASET, modality)


@pytest.mark.parametrize(("modality", "tower", "draw"), TOWERS, ids=lambda given: getattr(given, "name", ""))
def test_frozen_batch_normalization_is_the_same_in_training_and_still_learns(
    modality: str, tower: Any, draw: Callable[[], Any]
) -> None:
    torch.manual_seed(0)
    given = draw()
    frozen = build(replace(tower, freeze_batch_norm=True), modality)
    norms = [module for module in frozen.modules() if isinstance(module, _BatchNorm)]
    assert norms[0].running_mean is not None
    norms[0].running_mean += 0.1
    before = {name: buffer.clone() for name, buffer in frozen.named_buffers()}
    expected = frozen.eval()(given)
    found = frozen.train()(given)
    assert frozen.training and torch.equal(found, expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in frozen.named_buffers())
    found.square().sum().backward()
    assert any(norm.weight.grad is not None and norm.weight.grad.any() for norm in norms)
    plain = build(tower, modality)
    plain.load_state_dict(frozen.state_dict())
    assert not torch.allclose(plain.train()(given), expected, atol=1e-3)


def test_each_kind_of_tower_that_can_freeze_it_is_tried_here() -> None:
    tried = {type(tower) for _, tower, _ in TOWERS}
    kinds = {kind for modality, _, _ in TOWERS for kind in tower_kinds(TowerConfig, modality).values()}
    assert {kind for kind in kinds if "freeze_batch_norm" in kind.__dataclass_fields__} == tried
