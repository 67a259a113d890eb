"""The part of a tower that learns: which parameters move, what stays in evaluation mode, LoRA and its plain end."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from tests.helpers.made_transformers import dinov2
from tests.helpers.miniatures import build_narrow
from tests.helpers.pretrained_towers import Save, bert, clip, dataset, normalized, padded, photos, save, siglip, vit
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision
from xmr_e2e.towers.regions import GridRegions
from xmr_e2e.towers.text import BiGru, MeanWords
from xmr_e2e.towers.trained import build_tower
from xmr_e2e.towers.vector import VectorTower

__all__ = ["save"]  # a fixture
WORDS = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))


def with_words(size: int = 64) -> DatasetInfo:
    return DatasetInfo(5, False, size, words=WORDS, widths={"text": 7})


def learning(network: nn.Module) -> list[str]:
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("alexnet", "features.10.weight", "classifier.4.bias"),
        ("resnet34", "layer4.2.conv1.weight", "layer4.2.bn2.bias"),
        ("mobilenet_v3_small", "features.12.0.weight", "classifier.0.bias"),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1.weight", "encoder.ln.bias"),
        ("resnet10_slim", "7.conv1.weight", "7.downsample.1.bias"),
        ("efficientnet_lite0", "blocks.6.0.conv_pw.weight", "bn2.bias"),
    ],
)
def test_the_last_block_and_what_follows_it_learns(
    name: str, first: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "get_model", build_narrow)
    tower = ImageTower(name, weights="none", trained="last_block")
    found = learning(build_tower(tower, with_words(), "image"))
    assert (found[0], found[-1]) == (f"network.{first}", f"network.{last}")
    whole = learning(build_tower(replace(tower, trained="all"), with_words(), "image"))
    assert found == whole[whole.index(found[0]) :] and len(found) < len(whole)


@pytest.mark.parametrize("make", [clip, siglip, vit, dinov2])
def test_the_last_layer_of_a_transformer_and_what_follows_it_learns(save: Save, make: Any) -> None:
    tower = build_tower(PretrainedVision(save(make)[0], trained="last_block"), dataset(), "image")
    found = learning(tower)
    last = re.match(r"network\.(vision_model\.)?(encoder\.)?layers?\.1\.", found[0])  # by the version of transformers
    assert last and not any(".0." in name for name in found)
    assert any("norm" in name and not name.startswith(last[0]) for name in found)
    assert ("network.visual_projection.weight" in found) == (make is clip)
    output = tower(normalized(photos(2)))
    (output * torch.randn_like(output)).sum().backward()
    assert [name for name, weight in tower.named_parameters() if weight.grad is not None] == found


def test_of_a_grid_the_same_block_learns_as_of_its_network() -> None:
    grid = build_tower(GridRegions("resnet18", weights="none", cells=2, trained="last_block"), with_words(), "image")
    assert learning(grid)[0] == "network.layer4.1.conv1.weight"
    assert not any("layer3" in name for name in learning(grid))


def test_of_a_text_all_but_the_word_vectors_learns() -> None:
    tower = BiGru(hidden=5, trained="last_block")
    found = learning(build_tower(tower, with_words(), "text"))
    assert found == [name for name in learning(build_tower(replace(tower, trained="all"), with_words(), "text")) if
                     name != "words.weight"]  # fmt: skip
    assert learning(build_tower(MeanWords(trained="last_block"), with_words(), "text")) == []


def test_parts_that_there_are_not_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        XmrError, match=r"--method.image.trained lora is for transformers .* not for torchvision: choose"
    ):
        build_tower(ImageTower("resnet10_slim", weights="none", trained="lora"), with_words(), "image")
    with pytest.raises(XmrError, match=r"--method.text.trained last_block: VectorEncoder has no blocks"):
        build_tower(VectorTower(trained="last_block"), with_words(), "text")


def method(image: TowerConfig, text: TowerConfig) -> Any:
    return Dscmr(image=image, text=text, dim=4).build(with_words())


def test_what_stands_still_keeps_its_statistics_and_drops_nothing() -> None:
    built = method(ImageTower("resnet10_slim", weights="none", trained="last_block"), BiGru(hidden=3)).train()
    tower = built.towers["image"]
    norms = {name: layer for name, layer in tower.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    before = {name: layer.running_mean.clone() for name, layer in norms.items()}  # type: ignore[operator]
    tower(torch.randn(4, 3, 64, 64))
    moved = [name for name, layer in norms.items() if not torch.equal(layer.running_mean, before[name])]  # type: ignore[arg-type]
    assert moved == [name for name in norms if name.startswith("network.7.")]
    assert built.frozen == () and not built.eval().towers["image"].network[7].training


def test_a_tower_of_which_nothing_learns_is_a_frozen_one() -> None:
    built = method(ImageTower("resnet10_slim", weights="none", trained="nothing"), BiGru(hidden=3, dropout=0.5)).train()
    assert built.frozen == ("image",)
    assert not learning(built.towers["image"]) and learning(built.towers["text"])
    assert not built.towers["image"].training and built.towers["text"].dropout.training


# ---- LoRA


@pytest.fixture
def _peft() -> None:
    pytest.importorskip("peft")


@pytest.mark.usefixtures("_peft")
@pytest.mark.parametrize("make", [clip, siglip, dinov2, bert])
def test_lora_begins_as_the_model_and_learns_beside_its_linear_layers(save: Save, make: Any) -> None:
    from xmr_e2e.towers.lora import merge_lora

    folder = save(make)[0]
    plain: Any = PretrainedText if make is bert else PretrainedVision
    inputs: Any = padded([[2, 7, 8, 9, 3], [2, 40, 3]], 6) if make is bert else normalized(photos(2))
    before = build_tower(plain(folder), dataset(), "any").eval()
    tower = build_tower(plain(folder, trained="lora", lora_rank=2, lora_alpha=6.0), dataset(), "any").eval()
    with torch.no_grad():
        torch.testing.assert_close(tower(inputs), before(inputs))
    found = learning(tower)
    assert found and all("lora_A" in name or "lora_B" in name for name in found)
    output = tower(inputs)
    (output * torch.randn_like(output)).sum().backward()
    assert all(tower.get_parameter(name).grad is not None for name in found)
    # W + alpha / rank B A, as the paper has it (Sec. 4.1).
    name = next(name for name in found if "lora_A" in name).partition(".lora_A")[0]
    layer: Any = tower.get_submodule(name)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        for name in found:
            tower.get_parameter(name).normal_(0, 0.1)
        expected: Tensor = layer.base_layer.weight + 6.0 / 2 * up @ down
        changed = tower(inputs)
        assert not torch.allclose(changed, before(inputs), atol=1e-3)
        merge_lora(tower)
        torch.testing.assert_close(tower(inputs), changed, rtol=1e-4, atol=1e-5)
        names = [key for key, value in before.state_dict().items() if torch.equal(value, expected)]
    assert names == [] and {*tower.state_dict()} == {*before.state_dict()}
    assert any(torch.allclose(value, expected, atol=1e-6) for value in tower.state_dict().values()
               if value.shape == expected.shape)  # fmt: skip


def test_lora_without_peft_says_what_to_install(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    from xmr_e2e import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(XmrError, match=r"--method.image.trained lora needs .*peft.*pip install 'xmr-e2e\[lora\]'"):
        build_tower(PretrainedVision(save(vit)[0], trained="lora"), dataset(), "image")


def test_old_documents_say_nothing_of_it_and_mean_all(tmp_path: Path) -> None:
    from xmr_e2e.configuration import from_document, to_document

    document = to_document(ImageTower("alexnet"))
    del document["trained"]
    assert from_document(TowerConfig, document, "x") == ImageTower("alexnet")  # type: ignore[type-abstract]
