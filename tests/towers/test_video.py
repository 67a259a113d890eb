"""Towers of videos: torchvision's networks on clips, their weights, sizes and statistics; the mean over frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.kinds import tower_kinds
from xmr_e2e.towers.sizes import laying_out, run_on_sizes
from xmr_e2e.towers.trained import build_tower
from xmr_e2e.towers.video import MeanOfFrames, VideoTower

SMALL = "mc3_18"
"""the quickest of them"""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def dataset(image_size: int = 32, *, saved: bool = False) -> DatasetInfo:
    return DatasetInfo(
        5, False, image_size, words=torch.zeros(2, 3), frame_size=image_size, architectures={} if saved else None
    )


def clips(n: int, count: int = 4, size: int = 32) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.randn(n, count, 3, size, size)


def build(tower: TowerConfig, image_size: int = 32) -> Any:
    return build_tower(tower, dataset(image_size), "video")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "count", "dim"),
    [
        ("r3d_18", 32, 4, 512),
        ("mc3_18", 32, 1, 512),
        ("r2plus1d_18", 32, 4, 512),
        ("s3d", 224, 14, 1024),
        ("mvit_v1_b", 224, 16, 768),
        ("mvit_v2_s", 224, 16, 768),
        ("swin3d_t", 64, 4, 768),
    ],
)
def test_every_kind_of_network_takes_clips(name: str, size: int, count: int, dim: int) -> None:
    tower = build(VideoTower(name, "none"), size).eval()
    # Shapes alone where a clip takes seconds.
    found = run_on_sizes(tower, lambda: clips(1, count, size)) if size == 224 else tower(clips(1, count, size))
    assert found.shape == (1, tower.dim) == (1, dim)


@torch.no_grad()
def test_output_is_the_input_of_the_classification_layer_on_the_networks_own_statistics() -> None:
    whole: Any = models.get_model(SMALL).eval()
    tower = build(VideoTower(SMALL, "none")).eval()
    whole.load_state_dict({**whole.state_dict(), **tower.network.state_dict()})
    rgb = torch.rand(2, 4, 3, 32, 32)
    shape = (1, 1, 3, 1, 1)
    seen = (rgb - torch.tensor(IMAGENET_MEAN).view(shape)) / torch.tensor(IMAGENET_STD).view(shape)
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # of Kinetics, as torchvision's presets say
    own = (rgb - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    torch.testing.assert_close(whole.fc(tower(seen)), whole(own.transpose(1, 2)), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_video_network_sees_the_order_of_the_frames_and_a_mean_does_not() -> None:
    given = clips(2)
    video, mean = build(VideoTower(SMALL, "none")).eval(), build(MeanOfFrames("resnet10_slim", "none")).eval()
    assert not torch.allclose(video(given), video(given.flip(1)), atol=1e-3)
    torch.testing.assert_close(mean(given), mean(given.flip(1)))
    alone = torch.stack([mean(given[:, [number]]) for number in range(4)])
    torch.testing.assert_close(mean(given), alone.mean(dim=0))


@pytest.mark.slow
@torch.no_grad()
def test_a_frame_is_to_the_mean_what_a_picture_is_to_an_image_tower() -> None:
    mean = build(MeanOfFrames("alexnet_paper", "none"), 67).eval()
    image = ImageTower("alexnet_paper", "none").build(dataset(67), "image").eval()
    image.load_state_dict(mean.state_dict())
    given = clips(2, 1, 67)
    torch.testing.assert_close(mean(given), image(given[:, 0]))


@pytest.mark.parametrize("tower", [VideoTower(SMALL, "none"), MeanOfFrames("resnet10_slim", "none")])
def test_a_training_step_reaches_every_parameter_and_the_pixels(tower: TowerConfig) -> None:
    built, given = build(tower).train(), clips(2).requires_grad_()
    rows = built(given)
    (rows * torch.randn_like(rows)).sum().backward()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert given.grad is not None and (given.grad.abs().amax((2, 3, 4)) > 0).all()


@pytest.mark.parametrize("classes", [400, 7, 0])
def test_weights_come_from_a_file_whatever_its_classification_layer(classes: int, tmp_path: Path) -> None:
    network = models.get_model(SMALL, num_classes=classes or 3)
    state = {key: value for key, value in network.state_dict().items() if classes or not key.startswith("fc.")}
    torch.save(state, tmp_path / "weights.pth")
    built = build(VideoTower(SMALL, str(tmp_path / "weights.pth")))
    assert all(torch.equal(value, state[key]) for key, value in built.network.state_dict().items())


def test_wrong_weights_and_names_are_refused_by_their_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(models.get_model("r3d_18").state_dict(), tmp_path / "other.pth")
    with pytest.raises(XmrError, match=r"other.pth does not hold the weights of this network: .*--method.video.name"):
        build(VideoTower(SMALL, str(tmp_path / "other.pth")))
    with pytest.raises(XmrError, match=r"--method.video.weights gone.pth: neither kinetics, nor none"):
        build(VideoTower(SMALL, "gone.pth"))
    with pytest.raises(XmrError, match=r"--method.video.name r3d_19: .*did you mean r3d_18"):
        build(VideoTower("r3d_19", "none"))
    with pytest.raises(XmrError, match=r"--method.video.name resnet50: .*known are mc3_18, mvit_v1_b"):
        build(VideoTower("resnet50", "none"))
    with pytest.raises(XmrError, match=r"--method.video.name resnet5O: .*resnet50"):
        build(MeanOfFrames("resnet5O", "none"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(XmrError, match=r"Kinetics weights of mc3_18 .*not known.*--method.video.weights FILE"):
        build(VideoTower(SMALL))


@pytest.mark.slow
def test_sizes_and_lengths_that_a_network_does_not_take_are_refused() -> None:
    with pytest.raises(XmrError, match=r"s3d cannot take frames of 32 pixels .*--data.video.size"):
        build(VideoTower("s3d", "none"))
    with pytest.raises(XmrError, match=r"mvit_v2_s cannot take frames of 112 pixels"):
        build(VideoTower("mvit_v2_s", "none"), 112)
    s3d, mvit = build(VideoTower("s3d", "none"), 224), build(VideoTower("mvit_v2_s", "none"), 224)
    with pytest.raises(XmrError, match=r"s3d takes clips of at least 14 frames, not 13: set --data.video.frames"):
        s3d(clips(1, 13, 224))
    with pytest.raises(XmrError, match=r"mvit_v2_s takes clips of only 16 frames, not 17"):
        mvit(clips(1, 17, 224))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tower", "size"),
    [
        (VideoTower(SMALL, "none"), 32),
        (VideoTower("s3d", "none"), 224),
        (VideoTower("mvit_v2_s", "none"), 224),
        (VideoTower("swin3d_t", "none"), 64),
        (MeanOfFrames("resnet10_slim", "none"), 32),
    ],
)
def test_a_saved_tower_is_built_again_from_its_weights(tower: TowerConfig, size: int) -> None:
    state = build(tower, size).state_dict()
    config: Any = from_document(type(tower), to_document(tower), "document")
    with laying_out(len(state), sum(value.nbytes for value in state.values())):
        planned = config.build(dataset(size, saved=True), "video")
    assert {key: value.shape for key, value in planned.state_dict().items()} == {k: v.shape for k, v in state.items()}
    again = config.build(dataset(size, saved=True), "video")
    again.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("tower", "first"),
    [
        (VideoTower(SMALL, "none"), "network.layer4.1.conv1.0.weight"),
        (MeanOfFrames("resnet18", "none"), "network.layer4.1.conv1.weight"),
    ],
)
def test_the_last_block_learns(tower: Any, first: str) -> None:
    built = build(replace(tower, trained="last_block"))
    assert next(name for name, parameter in built.named_parameters() if parameter.requires_grad) == first


@pytest.mark.slow
def test_dropout_is_the_networks_own_where_it_is_asked_for() -> None:
    for share in (0.0, 0.3):
        built = build(VideoTower("mvit_v2_s", "none", dropout=share), 224)
        assert {layer.p for layer in built.modules() if isinstance(layer, nn.Dropout) and layer.p} == {share} - {0.0}


def test_videos_have_these_kinds_of_towers() -> None:
    kinds = tower_kinds(TowerConfig | None, "video")
    assert {"torchvision": VideoTower, "mean_of_frames": MeanOfFrames}.items() <= kinds.items()
    assert "vector" in kinds and "transformers" not in kinds
