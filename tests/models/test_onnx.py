"""ONNX files: every method's heads and every tower equal torch, and run where neither torch nor this package is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models

import xmr_e2e
from tests.helpers.made_models import METHOD, TEXTS, fresh, make_model, pretrained, save_transformers
from tests.helpers.miniatures import build_narrow, narrow_hidden
from tests.helpers.onnx_runs import run_onnx, unit
from xmr_e2e.cli import main
from xmr_e2e.configuration import document_type
from xmr_e2e.data.config import Data
from xmr_e2e.data.inputs import CachedFeatures
from xmr_e2e.data.text import Vocabulary
from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.acmr import Acmr
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.methods.corr_ae import CorrAe
from xmr_e2e.methods.dcca import Dcca
from xmr_e2e.methods.dccae import Dccae
from xmr_e2e.methods.deep_sm import DeepSm
from xmr_e2e.methods.discovery import all_methods, method_name
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.kcca import Kcca
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.mcca import Mcca
from xmr_e2e.methods.mrl import Mrl
from xmr_e2e.methods.probe import Probe
from xmr_e2e.methods.scm import Scm
from xmr_e2e.methods.sdcmr import Sdcmr
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.models import onnx_files
from xmr_e2e.models.onnx_files import TOLERANCE, save_onnx
from xmr_e2e.models.onnx_guide import onnx_guide
from xmr_e2e.models.onnx_inputs import onnx_inputs
from xmr_e2e.models.onnx_recurrent import with_onnx_operators
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.networks import AlexNetPaper
from xmr_e2e.towers.regions import FasterRcnn, GridRegions, StoredRegions
from xmr_e2e.towers.text import BiGru, BiGruWords, BiLstmCnn, MeanWords, TextCnn
from xmr_e2e.towers.vector import VectorTower

pytest_plugins = ["tests.helpers.onnx_runs"]
pytestmark = pytest.mark.usefixtures("kept_registry")

WIDTHS = {"image": 12, "text": 10, "audio": 8, "regions": 6}
FEATURES: dict[str, Any] = {"image": VectorTower(), "text": VectorTower(scale="unit")}
HEADS: dict[str, MethodConfig] = {
    "acmr": Acmr(**FEATURES),
    "alscor": Alscor(**FEATURES, dim=4),
    "cca": Cca(**FEATURES, dim=4),
    "corr_ae": CorrAe(**FEATURES, dim=8),
    # Three layers that have learnt nothing give nearly the same for all, of which fp32 leaves too few digits.
    "dcca": Dcca(**FEATURES, layers=1, hidden=8, dim=4),
    "dccae": Dccae(**FEATURES, layers=1, hidden=8, dim=4),
    "deep_sm": DeepSm(**FEATURES),
    "drcl": Drcl(**FEATURES, hidden=16, dim=8),
    "dscmr": Dscmr(**FEATURES, hidden=16, dim=8),
    "kcca": Kcca(**FEATURES, dim=4, landmarks=60),
    "mars": Mars(**FEATURES, dim=8),
    "mrl": Mrl(**FEATURES, hidden=16, dim=8),
    "mcca": Mcca(**FEATURES, audio=VectorTower(), dim=4),
    "probe": Probe(**FEATURES),
    "scm": Scm(**FEATURES, dim=4),
    "sdcmr": Sdcmr(**FEATURES, dim=4),
    "sdml": Sdml(**FEATURES, audio=VectorTower(), dim=8),
}
for kind in all_methods():
    if kind is not SemanticSharing:  # on regions and words, further below
        HEADS.setdefault(method_name(document_type(kind)), kind(**FEATURES))
TOWERS: dict[str, tuple[TowerConfig, TowerConfig]] = {
    "VGG-19 and TextCNN": (ImageTower("vgg19", "none"), TextCnn(kernels=8)),
    "AlexNet and BiLSTM with CNN": (ImageTower("alexnet", "none"), BiLstmCnn(hidden=6, kernels=8)),
    "AlexNet as published and BiGRU": (ImageTower("alexnet_paper", "none"), BiGru(hidden=8)),
    "EfficientNet-Lite0 and BiGRU's maximum": (
        ImageTower("efficientnet_lite0", "none"),
        BiGru(hidden=8, pooling="max", directions="concatenate"),
    ),
    "slim network and mean of words": (ImageTower("resnet10_slim", "none"), MeanWords()),
}
SHARED: dict[str, Any] = {"dim": 16, "layers": 1, "heads": 2, "feedforward": 16}


def build(config: MethodConfig, side: int = 32) -> xmr_e2e.SavedModel:
    """The method with random weights, on 18 words."""
    torch.manual_seed(0)
    method = config.build(DatasetInfo(4, False, side, torch.randn(20, 6), WIDTHS))
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    for stage in method.stages:
        if stage.closed_form:
            rows = {name: CachedFeatures(torch.randn(40, width)) for name, width in method.widths().items()}
            with torch.no_grad():
                embeddings = {name: method.eval().embed(name, each) for name, each in rows.items()}
            method.fit(stage, embeddings, torch.eye(4)[torch.arange(40) % 4])
    data = Data(Path("elsewhere"), image_size=side, load_size=side + 8, max_tokens=30)
    words = Vocabulary(tuple(f"w{number}" for number in range(18)))
    return xmr_e2e.SavedModel(config, data, ["a", "b", "c", "d"], False, words, WIDTHS, method)


def test_every_method_is_among_them() -> None:
    assert {type(config) for config in HEADS.values()} | {SemanticSharing} == set(all_methods())


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_the_heads_of_each_method_equal_torch(name: str, tmp_path: Path) -> None:
    """Of one modality: an export takes seconds, and the others' are the same layers."""
    model = build(HEADS[name])
    (tmp_path / "onnx").mkdir()
    method = onnx_files._for_export(model.method)
    assert onnx_files._save_one(method, onnx_inputs(model, "text"), "text", tmp_path / "onnx") < TOLERANCE
    features = np.random.default_rng(1).standard_normal((9, WIDTHS["text"]), np.float32)
    found = run_onnx(tmp_path, "text", features=features)
    np.testing.assert_allclose(unit(found), unit(model.embed_features("text", features)), atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOWERS)
def test_each_tower_equals_torch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "get_model", build_narrow)
    image, text = TOWERS[name]
    model = build(Cca(image=image, text=text, dim=4), 72)
    if isinstance(network := model.method.towers["image"].network, AlexNetPaper):
        narrow_hidden(network)
    model.method.canonical.fitted.fill_(False)  # type: ignore[union-attr, operator]  # the towers' own output
    save_onnx(model, tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 80, 80), np.uint8)
    pictures = [np.ascontiguousarray(picture.transpose(1, 2, 0)) for picture in pixels]
    expected = model.embed_images(map(Image.fromarray, pictures))
    np.testing.assert_allclose(unit(run_onnx(tmp_path, "image", pixels=pixels)), unit(expected), atol=TOLERANCE)
    texts = ["w3", "w1 w2 unknown w17", "w5 " * 12]
    ids = [model.tokenizer.encode(text, max_tokens=30) for text in texts]  # type: ignore[union-attr]
    padded = np.array([row + [0] * (12 - len(row)) for row in ids])
    lengths = np.array([len(row) for row in ids])
    found = run_onnx(tmp_path, "text", ids=padded, lengths=lengths)
    np.testing.assert_allclose(unit(found), unit(model.embed_texts(texts)), atol=TOLERANCE)
    description = json.loads((tmp_path / "onnx" / "onnx.json").read_bytes())
    assert description["opset"] == 18 and description["fingerprint"] == model.fingerprint
    assert description["models"]["image"]["inputs"]["pixels"]["shape"] == ["n", 3, 80, 80]
    (opset,) = (item.version for item in onnx.load(tmp_path / "onnx" / "text.onnx").opset_import if not item.domain)
    assert opset == 18


@pytest.mark.slow
def test_the_shared_transformer_equals_torch_and_a_detector_stays_outside(tmp_path: Path) -> None:
    model = build(SemanticSharing(image=FasterRcnn("none", regions=4), text=BiGruWords(hidden=8), **SHARED), 64)
    assert max(save_onnx(model, tmp_path).values()) < TOLERANCE
    description = json.loads((tmp_path / "onnx" / "onnx.json").read_bytes())["models"]["image"]
    assert description["inputs"]["features"]["shape"] == ["n", "r", 1024]
    assert "Faster R-CNN" in description["inputs"]["features"]["meaning"]
    with torch.no_grad():
        sequence = model.method.features("image", torch.randn(2, 3, 64, 64))
        expected = model.method.embed("image", CachedFeatures(sequence)).numpy()
    found = run_onnx(tmp_path, "image", features=sequence.features.numpy(), boxes=sequence.positions.numpy())
    np.testing.assert_allclose(unit(found), unit(expected), atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("image", [StoredRegions(), GridRegions("resnet10_slim", "none", cells=3)])
def test_regions_of_the_shards_and_of_a_grid_equal_torch(image: TowerConfig, tmp_path: Path) -> None:
    """As released, where padding counts."""
    model = build(SemanticSharing(image=image, text=BiGruWords(hidden=8), released=True, **SHARED))
    way_in = onnx_inputs(model, "image")
    assert onnx_files._save_one(model.method, way_in, "image", tmp_path) < TOLERANCE
    names = [part.name for part in way_in.inputs]
    assert names == (["features", "boxes"] if isinstance(image, StoredRegions) else ["pixels"])


class _Folding(nn.Module):
    """A recurrent network and a shape that is computed from its states', as transformers' attention has one."""

    def __init__(self, network: nn.RNNBase) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        states = self.network(rows)[0]
        folded = states.reshape(rows.shape[0], rows.shape[1], -1, 4).transpose(1, 2)
        return folded.reshape(folded.shape[0], -1, rows.shape[1], 4).mean(2)


@pytest.mark.slow
@pytest.mark.parametrize("network", [nn.GRU, nn.LSTM])
def test_a_recurrent_network_reads_texts_of_any_length(network: type[nn.RNNBase], tmp_path: Path) -> None:
    """Behind it, the length of the exporter's example is not that of every text."""
    torch.manual_seed(0)
    folding = _Folding(network(6, 8, batch_first=True)).eval()
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    exported = with_onnx_operators(copy.deepcopy(folding))
    with onnx_files._quiet(), torch.no_grad():
        program = torch.onnx.export(exported, (torch.randn(3, 4, 6),), dynamic_shapes=(free,), dynamo=True)
    assert program is not None
    program.save(tmp_path / "folding.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "folding.onnx")
    for size in ((1, 1), (2, 4), (5, 3), (3, 17)):
        rows = torch.randn(*size, 6)
        (found,) = session.run(None, {session.get_inputs()[0].name: rows.numpy()})
        np.testing.assert_allclose(found, folding(rows).detach(), atol=1e-5)


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}, {"batch_first": False}])
def test_a_recurrent_network_of_another_build_is_not_exported_wrongly(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one layer of one direction with batch_first=True can be exported"):
        with_onnx_operators(nn.Sequential(nn.GRU(4, 4, **{"batch_first": True, **options})))


# ---- refusals


@pytest.mark.slow
def test_a_difference_above_the_tolerance_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "TOLERANCE", 1e-12)
    with pytest.raises(XmrError, match=r"differ from torch's by up to .*e-0.*; no ONNX file is written"):
        save_onnx(build(HEADS["dscmr"]), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_torch_cannot_write_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_files, "_for_export", lambda method: method)  # leaves a branch on a buffer's value
    with pytest.raises(XmrError, match="image: torch cannot write this network as ONNX") as caught:
        save_onnx(build(HEADS["cca"]), tmp_path)
    assert "\n" not in str(caught.value) and "".join(capfd.readouterr()) == ""
    assert not list(tmp_path.iterdir())


# ---- the script of the model card


def run_script(card: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """The script below "With onnxruntime alone", run in the card's folder for each of these texts: the last picture's
    embedding, and the texts'."""
    section = card.read_text(encoding="utf-8").partition("## With onnxruntime alone")[2]
    (script,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert script.count('"a dog in the snow"') == 1
    driver = f"""
import sys
found = []
for another in {texts!r}:
    exec({script!r}.replace('"a dog in the snow"', repr(another)))
    found.append(text_embedding)
assert not {{"torch", "xmr_e2e"}} & set(sys.modules), sorted(sys.modules)
np.savez("rows.npz", image=image, text=np.concatenate(found))
"""
    fresh(driver, cwd=card.parent)
    with np.load(card.parent / "rows.npz") as rows:
        return dict(rows)


@pytest.mark.slow
def test_the_cards_script_embeds_with_onnxruntime_alone(
    tiny_shards: Path, tmp_path: Path, make_image: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tiny_shards, Cca(image=METHOD.image, text=TextCnn(kernels=8), dim=4))
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    model.save(run, model.method.state_dict(), "untrained")
    assert main(["export", str(run), str(out), "--onnx"]) == 0
    assert "onnx/text.onnx: opset 18, differs from torch by" in capsys.readouterr().out
    photo = make_image(out / "photo.jpg", size=(130, 97), seed=3)
    found = run_script(out / "README.md", TEXTS)
    np.testing.assert_allclose(unit(found["text"]), unit(model.embed_texts(TEXTS)), atol=TOLERANCE)
    # Pillow and simplejpeg decode a JPEG to within a step of brightness.
    np.testing.assert_allclose(unit(found["image"]), unit(model.embed_images([photo])), atol=2e-2)
    assert xmr_e2e.load(out).fingerprint == model.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sentencepiece", "transformers"])
def test_the_cards_script_cuts_texts_as_the_model_does(kind: str, tiny_shards: Path, tmp_path: Path) -> None:
    if kind == "transformers":
        model = pretrained(tiny_shards, save_transformers(tmp_path / "hub"))
        assert max(save_onnx(model, tmp_path).values()) < TOLERANCE
    else:
        config = Cca(image=METHOD.image, text=TextCnn(kernels=8), dim=4)
        model = make_model(tiny_shards, config, Tokenization("sentencepiece", size=60))
    model.save_pretrained(tmp_path / "out")
    guide = onnx_guide(model, dict.fromkeys(model.method.modalities, 0.0))
    library = "sentencepiece" if kind == "sentencepiece" else "tokenizers"
    script = guide.partition('text = "a dog in the snow"')[2].partition("inputs =")[0]
    printed = fresh(f"import {library}\ntext = {TEXTS[1]!r}\n{script}\nprint(ids)", cwd=tmp_path / "out")
    assert model.tokenizer and json.loads(printed) == model.tokenizer.encode(TEXTS[1], max_tokens=20)
