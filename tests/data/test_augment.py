"""Training pictures: how large, how long and where random crops are, and how far colors vary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD, Augment, prepare_evaluation, prepare_training

COUNT, SIDE, SIZE = 4000, 16, 8


def crops(options: Augment, images: Tensor) -> Tensor:
    """The training pictures before they are normalized, in [0, 1]."""
    positions = torch.arange(len(images))
    found = prepare_training(images, SIZE, options, seed=3, epoch=2, positions=positions)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return found * std + mean


def extents(options: Augment) -> tuple[Tensor, Tensor, Tensor]:
    """Width, height and left end of each crop as shares of the picture's; a mirrored crop has a width below 0.

    Read off pictures whose red rises to the right and whose green rises downwards.
    """
    ramp = torch.linspace(0, 255, SIDE).round().to(torch.uint8)
    red, green = ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE)
    images = torch.stack([red, green, torch.zeros_like(red)]).expand(COUNT, 3, SIDE, SIDE)
    found = crops(options, images)
    # Between two neighboring pixels of the crop, in the middle, where no border is near.
    middle = SIZE // 2
    scale = (SIDE - 1) / SIDE * SIZE
    across = found[:, 0, middle, middle] - found[:, 0, middle, middle - 1]
    down = found[:, 1, middle, middle] - found[:, 1, middle - 1, middle]
    center = (found[:, 0, middle, middle] + found[:, 0, middle, middle - 1]) / 2
    return across * scale, down * scale, center


def test_crops_have_an_aspect_ratio_from_three_quarters_to_four_thirds() -> None:
    # Half of the area at most, so that no side meets the picture's.
    width, height, _ = extents(Augment(min_area=0.1, flip=False))
    small = (width < 0.8) & (height < 0.8)
    ratios = (width / height)[small]
    assert ratios.min() == pytest.approx(3 / 4, abs=0.02)
    assert ratios.max() == pytest.approx(4 / 3, abs=0.03)
    assert ratios.log().mean() == pytest.approx(0, abs=0.02)


def test_crops_have_the_areas_that_are_asked_for() -> None:
    width, height, _ = extents(Augment(min_area=0.25, flip=False))
    areas = width * height
    assert areas.min() == pytest.approx(0.25, abs=0.02)
    assert areas.max() == pytest.approx(1, abs=0.03)
    # Uniform but where a side was cut off at the picture's.
    assert areas[areas < 0.6].median() == pytest.approx(0.425, abs=0.02)


def test_crops_lie_anywhere_within_the_picture() -> None:
    width, _, center = extents(Augment(min_area=0.25, flip=False))
    left, right = center - width / 2, center + width / 2
    assert left.min() > -0.06 and right.max() < 1.06
    shares = (left / (1 - width))[width < 0.8]
    assert shares.min() < 0.05 and shares.max() > 0.95
    assert shares.mean() == pytest.approx(0.5, abs=0.02)


def test_every_other_crop_is_mirrored_unless_none_is_to_be() -> None:
    width, height, _ = extents(Augment())
    assert (width < 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (height > 0).all()
    assert torch.allclose(width.abs(), torch.tensor(SIZE / SIDE), atol=0.02)
    assert (extents(Augment(flip=False))[0] > 0).all()


def test_brightness_and_contrast_each_vary_by_up_to_the_share_that_is_asked_for() -> None:
    half = torch.full((COUNT, 3, SIDE, SIDE), 102, dtype=torch.uint8)
    half[:, :, :, SIDE // 2 :] = 153
    found = crops(Augment(flip=False, color=0.2), half)
    brightness = found.mean((1, 2, 3)) / crops(Augment(flip=False), half).mean((1, 2, 3))
    spread = found.amax((1, 2, 3)) - found.amin((1, 2, 3))
    plain = crops(Augment(flip=False), half)
    contrast = spread / (plain.amax((1, 2, 3)) - plain.amin((1, 2, 3))) / brightness
    for factor in (brightness, contrast):
        assert factor.min() == pytest.approx(0.8, abs=0.01)
        assert factor.max() == pytest.approx(1.2, abs=0.01)
        assert factor.mean() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(torch.stack([brightness, contrast]))[0, 1].abs() < 0.1


def test_a_picture_does_not_leave_the_range_of_colors() -> None:
    white = torch.full((200, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    found = crops(Augment(color=0.5), white)
    assert found.max() == pytest.approx(1, abs=1e-5) and found.min() >= 0.49


def test_pixels_are_shares_of_the_largest_value() -> None:
    images = torch.full((3, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    images[1], images[2] = 0, 51
    found = crops(Augment(color=0), images)
    for image, value in zip(found, (1, 0, 0.2)):
        torch.testing.assert_close(image, torch.full((3, SIZE, SIZE), float(value)), atol=1e-6, rtol=0)


def test_in_evaluation_the_middle_of_an_oblong_picture_is_taken() -> None:
    images = torch.arange(12 * 18, dtype=torch.uint8).view(1, 1, 12, 18).expand(1, 3, 12, 18)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for given, expected in ((images, images[:, :, 2:10, 5:13]), (images.mT, images.mT[:, :, 5:13, 2:10])):
        found = (prepare_evaluation(given, SIZE) * std + mean) * 255
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-4)
