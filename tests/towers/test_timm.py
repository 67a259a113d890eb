"""timm's networks as towers: their outputs, statistics, sizes and files of weights; names that are none of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.helpers.image_networks import pictures, reference_names, shaken
from tests.helpers.references import as_if_fitted
from xmr_e2e.data.augment import IMAGENET_MEAN, IMAGENET_STD
from xmr_e2e.data.config import Data
from xmr_e2e.data.text import pad
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.cca import Cca
from xmr_e2e.models.rebuild import rebuild
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.efficientnet import EfficientNetLite0
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.published_size import advise
from xmr_e2e.towers.regions import GridRegions
from xmr_e2e.towers.text import MeanWords

pytestmark = pytest.mark.slow

timm = pytest.importorskip("timm")
SMALL = ("mobilenetv3_small_050", 64, 1024)


def dataset(size: int) -> DatasetInfo:
    return DatasetInfo(5, False, size, words=torch.zeros(2, 3))


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images / 255 - mean) / std


@pytest.mark.parametrize(("name", "size", "dim"), [SMALL, ("vit_tiny_patch16_224", 64, 192), ("resnet10t", 64, 512)])
def test_the_output_is_timms_own_of_pictures_of_its_own_statistics(name: str, size: int, dim: int) -> None:
    tower = ImageTower(f"timm:{name}", weights="none").build(dataset(size), "image").eval()
    assert tower.dim == dim
    settings = {"img_size": size} if "vit" in name else {}
    network = timm.create_model(name, pretrained=False, num_classes=0, **settings).eval()
    network.load_state_dict(tower.network.state_dict())
    about = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values)[:, None, None] for values in (about.mean, about.std))
    images = pictures(size)
    with torch.no_grad():
        expected = network((images / 255 - mean) / std)
        torch.testing.assert_close(tower(normalized(images)), expected, rtol=1e-4, atol=1e-4)
    if "vit" in name:
        assert about.mean == (0.5, 0.5, 0.5) and network.pos_embed.shape[1] == 17


@pytest.mark.parametrize("classes", [1000, 7])
def test_weights_come_from_a_file_whatever_its_classification_layer(tmp_path: Path, classes: int) -> None:
    network = timm.create_model(SMALL[0], pretrained=False, num_classes=classes)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    tower = ImageTower(f"timm:{SMALL[0]}", weights=str(tmp_path / "w.pth")).build(dataset(64), "image")
    own = tower.network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items() if "classifier" not in key)


def test_lite0s_file_of_the_reference_implementation_is_read_into_timms_network(tmp_path: Path) -> None:
    network = shaken(EfficientNetLite0())
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    torch.save(reference_names(state), tmp_path / "w.pth")
    tower = ImageTower("timm:tf_efficientnet_lite0", weights=str(tmp_path / "w.pth")).build(dataset(64), "image")
    assert torch.equal(tower.network.get_parameter("blocks.6.0.conv_pwl.weight"), state["blocks.6.0.conv_pwl.weight"])


def test_timms_own_weights_are_asked_for_and_missed_with_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create(name: str, **options: Any) -> Any:
        asked.append((name, options["pretrained"]))
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", create)
    complaint = r"(?s)timm:resnet18.a1_in1k cannot be had: ConnectionError: no route.*weights none"
    with pytest.raises(XmrError, match=complaint):
        ImageTower("timm:resnet18.a1_in1k").build(dataset(64), "image")
    assert asked == [("resnet18.a1_in1k", True)]


@pytest.mark.parametrize("name", ["timm:resnet19", "timm:hf-hub:someone/model", "timm:local-dir:/etc", "timm:"])
def test_a_name_that_is_none_of_timms_is_refused(name: str) -> None:
    with pytest.raises(XmrError, match=rf"--method.image.name {name}: timm has no such network"):
        ImageTower(name, weights="none").build(dataset(64), "image")
    with pytest.raises(XmrError, match=r"did you mean .*timm:resnet1"):
        ImageTower("timm:resnet19", weights="none").build(dataset(64), "image")


def test_an_image_size_that_is_impossible_says_the_published_one() -> None:
    with pytest.raises(XmrError, match=r"timm:vit_tiny_patch16_224 cannot take images of 5 pixels.* --data.image-size"):
        ImageTower("timm:vit_tiny_patch16_224", weights="none").build(dataset(5), "image")


def test_without_timm_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from xmr_e2e import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(XmrError, match=r"timm:resnet18 needs .*pip install 'xmr-e2e\[timm\]'"):
        ImageTower("timm:resnet18").build(dataset(64), "image")


def test_pictures_unlike_those_of_the_weights_are_said_with_the_options_to_set() -> None:
    tower, data = ImageTower("timm:vit_tiny_patch16_224"), Data(Path("shards"), image_size=96, load_size=112)
    assert advise(tower, data, "image") == (
        "--method.image.name timm:vit_tiny_patch16_224: its weights were trained on pictures of 224 pixels, cut out of "
        "249, bicubic; for the same here: --data.image-size 224 --data.load-size 249 --data.interpolation bicubic"
    )
    same = replace(data, image_size=224, load_size=249, interpolation="bicubic")
    assert advise(tower, same, "image") is None
    assert advise(replace(tower, weights="none"), data, "image") is None
    advice = advise(ImageTower("efficientnet_lite0", weights="x.pth"), replace(same, interpolation="bilinear"), "image")
    assert advice and advice.endswith("for the same here: --data.load-size 256 --data.interpolation bicubic")
    assert advise(ImageTower("alexnet"), replace(data, image_size=224, load_size=256), "image") is None


@pytest.mark.parametrize("name", [f"timm:{SMALL[0]}", "timm:vit_tiny_patch16_224", "efficientnet_lite0"])
def test_a_saved_model_is_built_again_without_asking_anybody(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Cca(image=ImageTower(name, weights="none"), text=MeanWords(weighting="idf"), dim=2)
    about = replace(dataset(64), words=torch.randn(9, 5), idf=1 + torch.rand(9))
    method = as_if_fitted(config.build(about)).eval()
    weights = tmp_path / "model.safetensors"
    save_file({key: value.contiguous().clone() for key, value in method.state_dict().items()}, weights)
    monkeypatch.setattr("socket.socket.connect", None)
    config = replace(config, image=ImageTower(name))  # as it was trained, with weights of others
    saved = replace(about, words=torch.zeros(9, 5), idf=None, architectures={})
    again = rebuild(config, saved, weights, tmp_path / "model.json").eval()
    images, tokens = pictures(64), pad([[2, 3, 4], [1, 5]])
    with torch.no_grad():
        assert torch.equal(again.embed("image", normalized(images)), method.embed("image", normalized(images)))
        assert torch.equal(again.embed("text", tokens), method.embed("text", tokens))


@pytest.mark.parametrize("name", ["mobilevit_xxs", "tf_efficientnet_lite0"])
def test_a_network_whose_way_depends_on_sizes_gives_regions(name: str) -> None:
    tower = GridRegions(f"timm:{name}", "none", cells=2).build(dataset(64), "image").train()
    rows = tower(torch.randn(2, 3, 64, 64)).features
    rows.sum().backward()
    assert rows.shape == (2, 4, tower.dim) and all(part.grad is not None for part in tower.parameters())
