"""Towers: widths, weights from every source, errors that name the way out, gradients, independence of padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from tests.helpers.miniatures import build_narrow
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.errors import XmrError
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.networks import AlexNetPaper
from xmr_e2e.towers.vector import VectorTower

SMALL = "squeezenet1_1"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def dataset(image_size: int = 224) -> DatasetInfo:
    """What towers have to know, the rest being of no account to them."""
    return DatasetInfo(5, False, image_size, words=torch.zeros(2, 3), widths={"audio": 3})


def photos(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        ("alexnet", 63, 4096),
        ("alexnet_paper", 67, 4096),
        ("resnet10_slim", 32, 256),
        ("vgg19", 32, 4096),
        (SMALL, 64, 512),
        ("resnet18", 64, 512),
        ("mobilenet_v3_small", 64, 1024),
        ("googlenet", 64, 1024),
        ("vit_b_16", 64, 768),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_a_training_step_reaches_every_parameter(name: str, size: int, dim: int) -> None:
    tower = ImageTower(name, weights="none").build(dataset(size), "image").train()
    embeddings = tower(photos(2, size))
    assert embeddings.shape == (2, tower.dim) == (2, dim)
    (embeddings * torch.randn(2, dim)).sum().backward()
    gradients = {key: parameter.grad for key, parameter in tower.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    first_convolution = next(layer for layer in tower.modules() if isinstance(layer, nn.Conv2d))
    assert first_convolution.weight.grad is not None
    assert first_convolution.weight.grad.abs().max() > 0


def test_output_is_the_input_of_the_classification_layer() -> None:
    tower = ImageTower("alexnet", weights="none").build(dataset(), "image").eval()
    features = tower.network.get_submodule("features")(photos(2, 95))
    hidden = nn.functional.adaptive_avg_pool2d(features, 6).flatten(1)
    for layer in ("1", "4"):
        hidden = tower.network.get_submodule(f"classifier.{layer}")(hidden).clamp(min=0)
    torch.testing.assert_close(tower(photos(2, 95)), hidden)
    assert hidden.min() >= 0


@cache
def paper_alexnet() -> AlexNetPaper:
    """Of 60 million weights, which take half a second to be drawn."""
    return AlexNetPaper()


def test_paper_alexnet_has_the_published_layers() -> None:
    network = paper_alexnet()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.weight.shape for layer in convolutions] == [
        (96, 3, 11, 11),
        (256, 48, 5, 5),
        (384, 256, 3, 3),
        (384, 192, 3, 3),
        (256, 192, 3, 3),
    ]
    assert sum(parameter.numel() for parameter in network.parameters()) == 60_965_224
    assert network.features(photos(1, 224)).shape == (1, 256, 6, 6)
    assert [layer.bias.mean().item() for layer in convolutions if layer.bias is not None] == [0, 1, 0, 1, 1]


def test_paper_alexnet_normalises_responses_as_the_paper_writes_it() -> None:
    normalization = next(layer for layer in paper_alexnet().modules() if isinstance(layer, nn.LocalResponseNorm))
    maps = 50 * torch.rand(1, 9, 1, 1, generator=torch.Generator().manual_seed(0))
    a = maps.flatten().tolist()
    expected = []
    for i in range(9):
        neighbors = sum(a[j] ** 2 for j in range(max(0, i - 2), min(8, i + 2) + 1))
        expected.append(a[i] / (2 + 1e-4 * neighbors) ** 0.75)
    torch.testing.assert_close(normalization(maps).flatten(), torch.tensor(expected))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        large = normalization(torch.full((1, 1, 1, 1), 500.0, dtype=torch.float16))  # its square is beyond fp16
    assert large.item() == pytest.approx(500 / (2 + 1e-4 * 500**2) ** 0.75)


def test_paper_alexnet_sees_values_of_0_to_255_less_their_mean() -> None:
    rgb = torch.rand(1, 3, 67, 67, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    tower = ImageTower("alexnet_paper", weights="none").build(dataset(), "image").eval()
    torch.testing.assert_close(tower((rgb - mean) / std), tower.network(255 * (rgb - mean)), rtol=1e-4, atol=1e-4)


def same_features(tower: nn.Module, network: nn.Module) -> bool:
    """Whether the tower holds the network's weights below the classification layer."""
    theirs = network.state_dict()
    return all(torch.equal(value, theirs[key.removeprefix("network.")]) for key, value in tower.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("head", ["imagenet", "seven_classes", "none"])
def test_weights_come_from_a_file_whatever_its_classification_layer(tmp_path: Path, suffix: str, head: str) -> None:
    network = models.get_model(SMALL, num_classes=7 if head == "seven_classes" else 1000)
    state = {key: v for key, v in network.state_dict().items() if head != "none" or not key.startswith("classifier")}
    path = tmp_path / f"weights{suffix}"
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert same_features(ImageTower(SMALL, weights=str(path)).build(dataset(), "image"), network)


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_auxiliary_heads_of_a_file_are_ignored(tmp_path: Path) -> None:
    network = models.get_model("googlenet", aux_logits=True)
    torch.save(network.state_dict(), tmp_path / "googlenet.pth")
    assert same_features(
        ImageTower("googlenet", weights=str(tmp_path / "googlenet.pth")).build(dataset(), "image"), network
    )


def test_densenet_files_with_the_names_of_the_first_release_load(tmp_path: Path) -> None:
    network = models.get_model("densenet121")
    old = {
        key.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1."): value
        for key, value in network.state_dict().items()
        if "num_batches_tracked" not in key
    }
    assert any("norm.1.weight" in key for key in old)
    torch.save(old, tmp_path / "densenet.pth")
    assert same_features(
        ImageTower("densenet121", weights=str(tmp_path / "densenet.pth")).build(dataset(), "image"), network
    )


def write_other_network(path: Path) -> None:
    torch.save(models.get_model("mobilenet_v3_small").state_dict(), path)


def write_wider_network(path: Path) -> None:
    state = models.get_model(SMALL).state_dict()
    torch.save({key: torch.cat([value, value]) for key, value in state.items()}, path)


def write_nested_checkpoint(path: Path) -> None:
    torch.save({"epoch": 3, "model": models.get_model(SMALL).state_dict()}, path)


def write_noise(path: Path) -> None:
    path.write_bytes(b"\x00\xff not a state dict" * 20)


def write_truncated(path: Path) -> None:
    torch.save(models.get_model(SMALL).state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (write_other_network, r"features\.0\.weight is missing, .* more"),
        (write_wider_network, r"features\.0\.weight is \(128, 3, 3, 3\), not \(64, 3, 3, 3\)"),
        (write_nested_checkpoint, "does not hold a state dict"),
        (write_noise, "cannot be read"),
        (write_truncated, "cannot be read"),
        (Path.touch, "cannot be read"),
        (lambda path: None, "nor a file that exists"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_wrong_weights_file_is_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], complaint: str, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    write(path)
    if suffix == ".safetensors" and path.exists():
        complaint = "cannot be read"  # what torch.save writes is no safetensors file
    with pytest.raises(XmrError, match=complaint) as refusal:
        ImageTower(SMALL, weights=str(path)).build(dataset(), "image")
    assert str(path) in str(refusal.value)


class Hub:
    """Stands in for the download; serves one state dict, or no network at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.state: dict[str, Tensor] | None = None
        monkeypatch.setenv("TORCH_HOME", str(home))
        monkeypatch.setattr(torch.hub, "download_url_to_file", self.download)

    def download(self, url: str, destination: str, *_: object, **__: object) -> None:
        if self.state is None:
            raise URLError("Name or service not known")
        torch.save(self.state, destination)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    return Hub(monkeypatch, tmp_path)


def test_imagenet_weights_come_from_the_hub(hub: Hub) -> None:
    network = models.get_model(SMALL)
    hub.state = network.state_dict()
    assert same_features(ImageTower(SMALL).build(dataset(), "image"), network)


def test_a_missing_network_names_both_ways_out(hub: Hub) -> None:
    with pytest.raises(XmrError, match=r"--method.image.weights none.*--method.image.weights FILE") as refusal:
        ImageTower("vit_b_16").build(dataset(), "image")
    assert "https://" in str(refusal.value)
    assert "Name or service not known" in str(refusal.value)


def test_paper_alexnet_has_no_imagenet_weights() -> None:
    with pytest.raises(XmrError, match=r"alexnet_paper.*--method.image.weights none"):
        ImageTower("alexnet_paper").build(dataset(), "image")


def test_fresh_fully_connected_layers_replace_loaded_ones_only(hub: Hub) -> None:
    network = models.get_model("mobilenet_v3_small")
    hub.state = network.state_dict()
    tower = ImageTower("mobilenet_v3_small", fresh_fc=True).build(dataset(), "image")
    fresh = tower.network.get_submodule("classifier.0")
    assert isinstance(fresh, nn.Linear)
    assert fresh.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not fresh.bias.any()
    assert same_features(tower.network.get_submodule("features"), network.features)
    torch.manual_seed(5)
    plain = ImageTower("mobilenet_v3_small", weights="none").build(dataset(), "image")
    torch.manual_seed(5)
    assert same_features(
        ImageTower("mobilenet_v3_small", weights="none", fresh_fc=True).build(dataset(), "image"), plain.network
    )


def test_fresh_fully_connected_layers_are_refused_where_there_are_none(hub: Hub) -> None:
    hub.state = models.get_model("resnet18").state_dict()
    with pytest.raises(XmrError, match="resnet18 has no fully-connected layers"):
        ImageTower("resnet18", fresh_fc=True).build(dataset(), "image")


def test_an_unknown_network_is_refused_with_close_names() -> None:
    with pytest.raises(XmrError, match=r"resnet5O.*did you mean.*resnet50"):
        ImageTower("resnet5O").build(dataset(), "image")
    with pytest.raises(XmrError, match="known are alexnet_paper, efficientnet_lite0, resnet10_slim, alexnet,"):
        ImageTower("qqqqqqqq").build(dataset(), "image")


def test_vision_transformers_refuse_a_size_that_is_no_multiple_of_their_patches() -> None:
    with pytest.raises(XmrError, match="multiple of 16 pixels, not 70"):
        ImageTower("vit_b_16", weights="none").build(dataset(70), "image")


def test_published_features_are_taken_as_they_are_or_at_length_1() -> None:
    rows = torch.tensor([[3.0, 0.0, -4.0], [0.0, 0.0, 0.0], [1e-3, 2e-3, 2e-3]])
    tower = VectorTower().build(dataset(), "audio")
    assert tower.dim == 3
    assert torch.equal(tower(rows), rows)
    expected = torch.tensor([[0.6, 0.0, -0.8], [0.0, 0.0, 0.0], [1 / 3, 2 / 3, 2 / 3]])
    torch.testing.assert_close(VectorTower(scale="unit").build(dataset(), "audio")(rows), expected)


def test_published_features_that_are_not_there_are_missed_by_name() -> None:
    with pytest.raises(XmrError, match=r"no published features of video \(features there: audio\).*--method.video"):
        VectorTower().build(dataset(), "video")


# ---- dropout


def narrow_network(monkeypatch: pytest.MonkeyPatch, name: str, share: float | None = None) -> nn.Module:
    """The tower with narrow fully-connected layers, in training."""
    monkeypatch.setattr(models, "get_model", build_narrow)
    chosen = {} if share is None else {"dropout": share}
    return ImageTower(name, weights="none", **chosen).build(dataset(64), "image").train()


@pytest.mark.parametrize("name", ["vgg19", "alexnet"])
def test_features_carry_the_networks_own_dropout_only_where_it_is_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = photos(2, 64)
    still, dropping = narrow_network(monkeypatch, name), narrow_network(monkeypatch, name, 0.5)
    with torch.no_grad():
        assert torch.equal(still(pictures), still(pictures))
        assert not torch.equal(dropping(pictures), dropping(pictures))
        assert torch.equal(dropping.eval()(pictures), dropping(pictures))
    # The published layers have one before or after each hidden fully-connected layer.
    for network, share in ((still, 0.0), (dropping, 0.5)):
        assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [share, share]


def test_layers_that_drop_nothing_as_published_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(name: str, **_: object) -> nn.Module:
        return models.VisionTransformer(
            image_size=32, patch_size=16, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4
        )

    monkeypatch.setattr(models, "get_model", published)
    tower = ImageTower("vit_b_16", weights="none", dropout=0.5).build(dataset(32), "image")
    shares = {layer.p for layer in tower.modules() if isinstance(layer, nn.Dropout)}
    assert shares == {0.0}
