"""Towers: widths, weights from every source, errors that name the way out, gradients, independence of padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from xmr_e2e.errors import XmrError
from xmr_e2e.towers.image import IMAGENET_MEAN, IMAGENET_STD, AlexNetPaper, ImageTower
from xmr_e2e.towers.text import BiLstmCnn, BiLstmCnnEncoder

SMALL = "squeezenet1_1"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def photos(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        ("alexnet", 63, 4096),
        ("alexnet_paper", 67, 4096),
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
    tower = ImageTower(name, weights="none").build(image_size=size).train()
    embeddings = tower(photos(2, size))
    assert embeddings.shape == (2, tower.dim) == (2, dim)
    (embeddings * torch.randn(2, dim)).sum().backward()
    gradients = {key: parameter.grad for key, parameter in tower.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    first_convolution = next(layer for layer in tower.modules() if isinstance(layer, nn.Conv2d))
    assert first_convolution.weight.grad is not None
    assert first_convolution.weight.grad.abs().max() > 0


def test_output_is_the_input_of_the_classification_layer() -> None:
    tower = ImageTower("alexnet", weights="none").build().eval()
    features = tower.network.get_submodule("features")(photos(2, 95))
    hidden = nn.functional.adaptive_avg_pool2d(features, 6).flatten(1)
    for layer in ("1", "4"):
        hidden = tower.network.get_submodule(f"classifier.{layer}")(hidden).clamp(min=0)
    torch.testing.assert_close(tower(photos(2, 95)), hidden)
    assert hidden.min() >= 0


def test_paper_alexnet_has_the_published_layers() -> None:
    network = AlexNetPaper()
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
    normalisation = next(layer for layer in AlexNetPaper().modules() if isinstance(layer, nn.LocalResponseNorm))
    maps = 50 * torch.rand(1, 9, 1, 1, generator=torch.Generator().manual_seed(0))
    a = maps.flatten().tolist()
    expected = []
    for i in range(9):
        neighbours = sum(a[j] ** 2 for j in range(max(0, i - 2), min(8, i + 2) + 1))
        expected.append(a[i] / (2 + 1e-4 * neighbours) ** 0.75)
    torch.testing.assert_close(normalisation(maps).flatten(), torch.tensor(expected))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        large = normalisation(torch.full((1, 1, 1, 1), 500.0, dtype=torch.float16))  # its square is beyond fp16
    assert large.item() == pytest.approx(500 / (2 + 1e-4 * 500**2) ** 0.75)


def test_paper_alexnet_sees_values_of_0_to_255_less_their_mean() -> None:
    rgb = torch.rand(1, 3, 67, 67, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    tower = ImageTower("alexnet_paper", weights="none").build().eval()
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
    assert same_features(ImageTower(SMALL, weights=str(path)).build(), network)


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_auxiliary_heads_of_a_file_are_ignored(tmp_path: Path) -> None:
    network = models.get_model("googlenet", aux_logits=True)
    torch.save(network.state_dict(), tmp_path / "googlenet.pth")
    assert same_features(ImageTower("googlenet", weights=str(tmp_path / "googlenet.pth")).build(), network)


def test_densenet_files_with_the_names_of_the_first_release_load(tmp_path: Path) -> None:
    network = models.get_model("densenet121")
    old = {
        key.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1."): value
        for key, value in network.state_dict().items()
        if "num_batches_tracked" not in key
    }
    assert any("norm.1.weight" in key for key in old)
    torch.save(old, tmp_path / "densenet.pth")
    assert same_features(ImageTower("densenet121", weights=str(tmp_path / "densenet.pth")).build(), network)


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
        ImageTower(SMALL, weights=str(path)).build()
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
    assert same_features(ImageTower(SMALL).build(), network)


def test_a_missing_network_names_both_ways_out(hub: Hub) -> None:
    with pytest.raises(XmrError, match=r"--method.image.weights none.*--method.image.weights FILE") as refusal:
        ImageTower("vit_b_16").build()
    assert "https://" in str(refusal.value)
    assert "Name or service not known" in str(refusal.value)


def test_paper_alexnet_has_no_imagenet_weights() -> None:
    with pytest.raises(XmrError, match=r"alexnet_paper.*--method.image.weights none"):
        ImageTower("alexnet_paper").build()


def test_fresh_fully_connected_layers_replace_loaded_ones_only(hub: Hub) -> None:
    network = models.get_model("mobilenet_v3_small")
    hub.state = network.state_dict()
    tower = ImageTower("mobilenet_v3_small", fresh_fc=True).build()
    fresh = tower.network.get_submodule("classifier.0")
    assert isinstance(fresh, nn.Linear)
    assert fresh.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not fresh.bias.any()
    assert same_features(tower.network.get_submodule("features"), network.features)
    torch.manual_seed(5)
    plain = ImageTower("mobilenet_v3_small", weights="none").build()
    torch.manual_seed(5)
    assert same_features(ImageTower("mobilenet_v3_small", weights="none", fresh_fc=True).build(), plain.network)


def test_fresh_fully_connected_layers_are_refused_where_there_are_none(hub: Hub) -> None:
    hub.state = models.get_model("resnet18").state_dict()
    with pytest.raises(XmrError, match="resnet18 has no fully-connected layers"):
        ImageTower("resnet18", fresh_fc=True).build()


def test_an_unknown_network_is_refused_with_close_names() -> None:
    with pytest.raises(XmrError, match=r"resnet5O.*did you mean.*resnet50"):
        ImageTower("resnet5O").build()
    with pytest.raises(XmrError, match="known are alexnet_paper, alexnet,"):
        ImageTower("qqqqqqqq").build()


def test_vision_transformers_refuse_a_size_that_is_no_multiple_of_their_patches() -> None:
    with pytest.raises(XmrError, match="multiple of 16 pixels, not 70"):
        ImageTower("vit_b_16", weights="none").build(image_size=70)


def text_tower(**options: int | float) -> BiLstmCnnEncoder:
    vectors = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    return BiLstmCnn(**{"hidden": 5, "kernels": 11, "dropout": 0.0, **options}).build(vectors)  # type: ignore[arg-type]


def padded(texts: list[list[int]], to: int) -> tuple[Tensor, Tensor]:
    rows = [text + [0] * (to - len(text)) for text in texts]
    return torch.tensor(rows), torch.tensor([len(text) for text in texts])


TEXTS = [[3, 4, 5, 6, 7, 8, 9], [10, 11], [12], [13, 14, 15], [1, 1, 2, 29]]


@pytest.mark.parametrize("width", [1, 2, 3, 9])
def test_a_text_is_embedded_alike_whatever_padding_and_company_it_has(width: int) -> None:
    tower = text_tower(width=width)
    alone = torch.cat([tower(*padded([text], len(text))) for text in TEXTS])
    assert alone.shape == (5, tower.dim) == (5, 11)
    for length in (7, 8, 20):
        torch.testing.assert_close(tower(*padded(TEXTS, length)), alone, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_text_tower_equals_its_formula_written_with_loops() -> None:
    tower, text = text_tower(), TEXTS[0]
    both = torch.nn.LSTM(tower.lstm.input_size, tower.lstm.hidden_size, batch_first=True, bidirectional=True)
    forwards, backwards = tower.lstm.state_dict(), tower.lstm_backwards.state_dict()
    both.load_state_dict(forwards | {f"{name}_reverse": value for name, value in backwards.items()})
    states, _ = both(tower.words.weight[torch.tensor(text)][None])
    kernels, bias = tower.convolution.weight, tower.convolution.bias
    assert bias is not None
    expected = []
    for kernel, offset in zip(kernels, bias, strict=True):
        windows = [
            sum(float(states[0, t + i] @ kernel[:, i]) for i in range(3)) + float(offset) for t in range(len(text) - 2)
        ]
        expected.append(max(0.0, *windows))
    torch.testing.assert_close(tower(*padded([text], 12))[0], torch.tensor(expected))
    assert max(expected) > 0


def test_gradients_reach_the_word_vectors_but_not_the_padding() -> None:
    tower = text_tower()
    optimiser = torch.optim.SGD(tower.parameters(), lr=1.0, momentum=0.8, weight_decay=5e-4)
    before = tower.words.weight.detach().clone()
    for _ in range(2):
        optimiser.zero_grad()
        tower(*padded(TEXTS, 9)).sum().backward()
        optimiser.step()
    changed = ((tower.words.weight - before).abs() > 1e-2).any(1)
    assert changed[torch.tensor(sorted({word for text in TEXTS for word in text}))].all()
    assert not tower.words.weight[0].any()


def test_text_tower_copies_the_word_vectors_and_empties_the_padding_row() -> None:
    vectors = torch.ones(4, 3)
    tower = BiLstmCnn().build(vectors)
    assert tower.words.weight.tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    with torch.no_grad():
        tower.words.weight[2] = 7
    assert torch.equal(vectors, torch.ones(4, 3))
    assert (tower.lstm.hidden_size, tower.lstm_backwards.hidden_size) == (141, 141)


def test_dropout_acts_in_training_only() -> None:
    tower = text_tower(dropout=0.5)
    batch = padded(TEXTS, 7)
    assert not torch.equal(tower.train()(*batch), tower(*batch))
    assert torch.equal(tower.eval()(*batch), tower(*batch))
