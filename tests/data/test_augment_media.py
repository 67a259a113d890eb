"""Training sounds, clips and shapes: how far they vary, and that they do so by seed, epoch and position alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from xmr_e2e.data.augment import Augment, prepare_evaluation, prepare_training
from xmr_e2e.data.augment_frames import augment_frames, prepare_frames
from xmr_e2e.data.augment_points import PointAugment, augment_points, rotate
from xmr_e2e.data.augment_sound import SoundAugment, augment_sound
from xmr_e2e.data.inputs import Waveforms, map_tensors

COUNT = 300
PLAIN = SoundAugment(shift=0, gain=0, frequency_masks=0, time_masks=0)


def sounds(count: int = COUNT, windows: int = 1, length: int = 50) -> Waveforms:
    samples = torch.randn(count, windows, length, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((count, windows), length)
    lengths[::3] = 20
    return Waveforms(samples.masked_fill(torch.arange(length) >= lengths[:, :, None], 0), lengths)


def frames(count: int = 6, length: int = 4, side: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, length, 3, side, side), dtype=torch.uint8, generator=generator)


def points(count: int = COUNT, each: int = 30) -> Tensor:
    found = torch.randn(count, each, 3, generator=torch.Generator().manual_seed(0))
    return found / found.norm(dim=2).amax(dim=1)[:, None, None]


Vary = Callable[[Any, int, Tensor], Any]


def vary_sound(inputs: Any, epoch: int, positions: Tensor) -> Any:
    return augment_sound(inputs, SoundAugment(time_masks=2), seed=3, epoch=epoch, positions=positions)


def vary_frames(inputs: Any, epoch: int, positions: Tensor) -> Any:
    return augment_frames(inputs, 8, Augment(0.5, color=0.3), seed=3, epoch=epoch, positions=positions)


def vary_points(inputs: Any, epoch: int, positions: Tensor) -> Any:
    return augment_points(inputs, PointAugment(dropout=0.5), seed=3, epoch=epoch, positions=positions)


@pytest.mark.parametrize(
    ("vary", "inputs"), [(vary_sound, sounds(6, 2)), (vary_frames, frames(6)), (vary_points, points(6))]
)
def test_a_sample_varies_by_epoch_and_in_no_way_by_its_batch(vary: Vary, inputs: Any) -> None:
    positions = torch.tensor([7, 0, 123_456_789, 3, 4, 90])
    whole = vary(inputs, 2, positions)
    rows = whole.samples if isinstance(whole, Waveforms) else whole
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        alone = vary(map_tensors(inputs, lambda tensor, part=part: tensor[part]), 2, positions[part])
        found = alone if isinstance(alone, Waveforms) else (alone,)
        expected = map_tensors(whole if isinstance(whole, Waveforms) else (whole,), lambda t, part=part: t[part])
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    later = vary(inputs, 3, positions)
    later = later.samples if isinstance(later, Waveforms) else later
    assert all(not torch.allclose(one, other) for one, other in zip(rows, later))


# ---- sounds


def test_a_sound_is_turned_around_its_own_end() -> None:
    given = sounds(windows=2)
    found = augment_sound(given, replace(PLAIN, shift=1), seed=1, epoch=0, positions=torch.arange(COUNT))
    assert found.masks is None and torch.equal(found.lengths, given.lengths)
    moves = []
    for before, after, lengths in zip(given.samples, found.samples, given.lengths):
        length = int(lengths[0])
        turned = [k for k in range(length) if torch.equal(before[0, :length].roll(k), after[0, :length])]
        assert len(turned) == 1 and not after[:, length:].any()
        assert torch.equal(before[1, :length].roll(turned[0]), after[1, :length])  # all windows alike
        moves.append(turned[0] / length)
    assert min(moves) < 0.05 and max(moves) > 0.9
    assert torch.tensor(moves).mean() == pytest.approx(0.5, abs=0.06)


def test_a_sound_is_shifted_no_further_than_is_asked_for() -> None:
    ramp = Waveforms(torch.arange(100.0).expand(COUNT, 1, 100), torch.full((COUNT, 1), 100))
    found = augment_sound(ramp, replace(PLAIN, shift=0.1), seed=1, epoch=0, positions=torch.arange(COUNT))
    moves = -found.samples[:, 0, 50] + 50
    assert moves.min() == 0 and moves.max() == 9


def test_loudness_varies_by_so_many_decibels() -> None:
    given = sounds()
    found = augment_sound(given, replace(PLAIN, gain=6), seed=1, epoch=0, positions=torch.arange(COUNT))
    factors = found.samples.square().sum((1, 2)).sqrt() / given.samples.square().sum((1, 2)).sqrt()
    decibels = 20 * factors.log10()
    assert decibels.min() == pytest.approx(-6, abs=0.1) and decibels.max() == pytest.approx(6, abs=0.1)
    torch.testing.assert_close(found.samples, given.samples * factors[:, None, None])


def test_masks_are_bands_and_stretches_of_every_width_up_to_the_one_that_is_asked_for() -> None:
    options = replace(PLAIN, frequency_masks=2, frequency_width=0.3, time_masks=1, time_width=0.5)
    masks = augment_sound(sounds(), options, seed=1, epoch=0, positions=torch.arange(COUNT)).masks
    assert masks is not None and masks.shape == (COUNT, 3, 4)
    low, high, first, last = masks.unbind(2)
    assert torch.equal(low[:, 2], torch.zeros(COUNT)) and torch.equal(high[:, 2], torch.ones(COUNT))
    assert torch.equal(first[:, :2], torch.zeros(COUNT, 2)) and torch.equal(last[:, :2], torch.ones(COUNT, 2))
    for start, end, widest in (
        (low[:, 0], high[:, 0], 0.3),
        (low[:, 1], high[:, 1], 0.3),
        (first[:, 2], last[:, 2], 0.5),
    ):
        assert start.min() >= 0 and end.max() <= 1
        assert (end - start).min() < 0.02 and (end - start).max() == pytest.approx(widest, abs=0.01)
        assert (end - start).mean() == pytest.approx(widest / 2, abs=0.02)
        assert start.min() < 0.05 and end.max() > 0.95


# ---- clips


def test_a_clip_of_one_frame_is_a_picture() -> None:
    given, options = frames(length=1), Augment(0.3, color=0.4)
    arguments: dict[str, Any] = {"seed": 5, "epoch": 1, "positions": torch.arange(6)}
    expected = prepare_training(given[:, 0], 8, options, **arguments)
    torch.testing.assert_close(augment_frames(given, 8, options, **arguments)[:, 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(prepare_frames(given, 8)[:, 0], prepare_evaluation(given[:, 0], 8))


def test_all_frames_of_a_clip_have_one_crop_flip_and_color() -> None:
    """Read off frames of one value each, and off equal frames beside others."""
    values = torch.tensor([60, 100, 140, 180], dtype=torch.uint8)
    even = values.view(1, 4, 1, 1, 1).expand(200, 4, 3, 12, 12)
    positions = torch.arange(200)
    found = augment_frames(even, 8, Augment(color=0.2), seed=5, epoch=1, positions=positions).mean((2, 3, 4))
    steps = found.diff(dim=1)  # contrast and brightness about one mean: a straight line
    torch.testing.assert_close(steps, steps[:, :1].expand(-1, 3), atol=1e-4, rtol=0)
    assert steps[:, 0].std() > 0.02
    alike = frames(200, 1).expand(-1, 3, -1, -1, -1)
    found = augment_frames(alike, 8, Augment(0.2, color=0.2), seed=5, epoch=1, positions=positions)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))
    assert found.shape == (200, 3, 3, 8, 8)


# ---- shapes


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_shapes_turn_about_the_vertical_axis_by_any_angle(up: Any, axis: int) -> None:
    given = points()
    options = PointAugment(up=up, jitter=0)
    found = augment_points(given, options, seed=1, epoch=0, positions=torch.arange(COUNT))
    torch.testing.assert_close(found[:, :, axis], given[:, :, axis], rtol=0, atol=0)
    for shape, turned in zip(given[:20], found[:20]):
        # Rigid, and no mirror image: three points keep the volume that they span, with its sign.
        torch.testing.assert_close(shape @ shape.T, turned @ turned.T, atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.det(shape[:3]), torch.det(turned[:3]), atol=1e-5, rtol=0)
    across, along = ((axis + 1) % 3, (axis + 2) % 3)
    angles = torch.atan2(found[:, 0, along], found[:, 0, across]) - torch.atan2(given[:, 0, along], given[:, 0, across])
    shares = (angles / (2 * torch.pi)) % 1
    assert shares.min() < 0.02 and shares.max() > 0.98 and shares.mean() == pytest.approx(0.5, abs=0.06)


def test_a_quarter_turn_is_counterclockwise() -> None:
    quarter = torch.tensor([torch.pi / 2])
    x, y, z = torch.eye(3)
    for up, before, after in (("z", x, y), ("x", y, z), ("y", z, x)):
        torch.testing.assert_close(rotate(before.view(1, 1, 3), quarter, up)[0, 0], after)  # type: ignore[arg-type]


def test_points_move_by_a_normal_distribution_that_is_cut_off() -> None:
    given = points()
    options = PointAugment(rotation=0, jitter=0.02)
    moved = augment_points(given, options, seed=1, epoch=0, positions=torch.arange(COUNT)) - given
    assert moved.std() == pytest.approx(0.02, rel=0.02) and moved.mean() == pytest.approx(0, abs=1e-3)
    assert moved.abs().max() <= 0.1 + 1e-6
    assert (moved.abs() < 0.02).float().mean() == pytest.approx(0.683, abs=0.01)
    assert torch.corrcoef(moved.flatten(0, 1).T).fill_diagonal_(0).abs().max() < 0.05
    assert torch.unique(moved).numel() > 0.9 * moved.numel()


def test_dropped_points_are_copies_of_the_first() -> None:
    given = points()
    options = PointAugment(rotation=0, jitter=0, dropout=0.6)
    found = augment_points(given, options, seed=1, epoch=0, positions=torch.arange(COUNT))
    is_dropped = (found != given).any(dim=2)
    assert torch.equal(found[is_dropped], given[:, :1].expand_as(given)[is_dropped])
    shares = is_dropped.float().mean(dim=1)
    assert shares.mean() == pytest.approx(0.3, abs=0.03) and shares.min() < 0.1 and shares.max() > 0.45
    assert not is_dropped[:, 0].any()
