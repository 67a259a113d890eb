"""Towers of transformers by command line alone: trained, loaded again, exported to ONNX and for transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import xmr_e2e
from tests.helpers.made_transformers import WORDS, bert, blip2, clip, dinov2, siglip, write_tokenizer
from tests.helpers.recipes import fresh_accelerator
from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import build_method
from xmr_e2e.models.transformers_files import save_transformers
from xmr_e2e.recipes import dscmr_flickr8k
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision
from xmr_e2e.training.launch import parse, run_experiment
from xmr_e2e.training.processes import make_accelerator

TEXTS = ["a picture of red", "one more"]


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[Callable[[], Any]], Path]:
    """Writes a model with random weights and its tokeniser."""

    def write(make: Callable[[], Any]) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / make.__name__
        make().save_pretrained(folder)
        write_tokenizer(folder)
        return folder

    return write


def small(shards: Path, runs: Path) -> list[str]:
    options = "--data.image-size 32 --data.load-size 40 --data.workers 0 --train.epochs 1 --train.batch-size 20"
    return [*options.split(), "--data.shards", str(shards), "--train.runs", str(runs), "--train.name", "run"]


def towers(image: Path, text: Path) -> list[str]:
    kinds = [f"--method.{modality}.kind=transformers" for modality in ("image", "text")]
    return [*kinds, "--method.image.name", str(image), "--method.text.name", str(text)]


@pytest.fixture
def _fresh() -> Any:
    with fresh_accelerator():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("trained", ["all", "lora"])
def test_clips_towers_by_command_line_are_trained_exported_and_loaded_by_transformers(
    trained: str, folder_of: Any, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if trained == "lora":
        pytest.importorskip("peft")
    folder, lr = folder_of(clip), ["--optimizer.lr", "0.01"]
    part = [f"--method.image.trained={trained}", "--method.text.trained", "last_block" if trained == "lora" else "all"]
    words = [*towers(folder, folder), *small(tiny_shards, tmp_path), *lr, *part]
    experiment = parse(dscmr_flickr8k.experiment, words)
    assert experiment.data.tokens.name == str(folder)
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    run, out = tmp_path / "dscmr_flickr8k" / "run", tmp_path / "out"
    onnx = ["--onnx"] if trained == "all" else []
    assert main(["export", str(run), str(out), "--transformers", *onnx]) == 0
    printed = capsys.readouterr().out
    assert str(out / "transformers" / "image") in printed and ("text.onnx" in printed) == bool(onnx)

    began, model, exported = transformers.CLIPModel.from_pretrained(folder), xmr_e2e.load(run), xmr_e2e.load(out)
    np.testing.assert_allclose(exported.embed_texts(TEXTS), model.embed_texts(TEXTS), rtol=1e-4, atol=1e-5)
    for name in ("image", "text"):
        assert not any("lora" in key for key in exported.method.towers[name].state_dict())
    assert exported.config.image.trained == "all"

    vision = transformers.CLIPVisionModelWithProjection.from_pretrained(out / "transformers" / "image").eval()
    text = transformers.CLIPTextModelWithProjection.from_pretrained(out / "transformers" / "text").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "transformers" / "text")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoder: Any = model.method.towers["image"].cpu()
    ids = [tokenizer(sentence)["input_ids"] for sentence in TEXTS]
    assert ids == [model.tokenizer.encode(sentence, max_tokens=20) for sentence in TEXTS]  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(
            vision(encoder.renormalize(pixels)).image_embeds, encoder(pixels), rtol=1e-4, atol=1e-4
        )
        row, tower = torch.tensor(ids[:1]), model.method.towers["text"].cpu()
        tokens = model.load_texts(TEXTS[:1])
        torch.testing.assert_close(text(row).text_embeds, tower(tokens), rtol=1e-4, atol=1e-4)
    # What was trained is what was written.
    assert not torch.allclose(
        vision.vision_model.encoder.layers[1].mlp.fc1.weight, began.vision_model.encoder.layers[1].mlp.fc1.weight
    )
    # The folders are models to begin with again.
    for name, cls in (("image", PretrainedVision), ("text", PretrainedText)):
        dataset = DatasetInfo(4, False, 32, torch.zeros(len(WORDS), 0))
        again = cls(str(out / "transformers" / name)).build(dataset, name)
        assert again.dim == 8
        torch.testing.assert_close(again.network.state_dict(), {"image": vision, "text": text}[name].state_dict())
    about = json.loads((out / "transformers" / "image" / "preprocessor_config.json").read_text())
    assert about["image_mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073], abs=1e-5)
    assert about["image_std"] == pytest.approx([0.26862954, 0.26130258, 0.27577711], abs=1e-5)


@pytest.mark.parametrize(("image", "text"), [(siglip, siglip), (dinov2, bert), (blip2, blip2)])
def test_models_by_command_line_are_built_and_learn(image: Any, text: Any, folder_of: Any, tiny_shards: Path) -> None:
    words = [*towers(folder_of(image), folder_of(text)), *small(tiny_shards, Path("runs"))]
    experiment = parse(dscmr_flickr8k.experiment, words)
    manifest = load_manifest(tiny_shards)
    dataset = DatasetInfo(len(manifest.classes), False, 32, torch.zeros(len(WORDS), 0), manifest.widths)
    method = build_method(experiment.method, dataset)
    tokens = xmr_e2e.data.text.pad([[2, 4, 5, 3], [2, 6, 3]])
    embedded = method.represent({"image": torch.rand(2, 3, 32, 32), "text": tokens})
    torch.stack([rows.pow(2).sum() for rows in embedded.values()]).sum().backward()
    for name in ("image", "text"):
        gradients = [weight.grad for weight in method.towers[name].parameters() if weight.requires_grad]
        assert gradients and all(gradient is not None for gradient in gradients)


def test_dinov2s_output_is_its_class_token_after_the_last_normalization(folder_of: Any) -> None:
    folder = folder_of(dinov2)
    tower: Any = PretrainedVision(str(folder)).build(DatasetInfo(2, False, 32, torch.zeros(2, 0)), "image").eval()
    own = transformers.Dinov2Model.from_pretrained(folder).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        token = own.layernorm(own.encoder(own.embeddings(images)).last_hidden_state)[:, 0]
        torch.testing.assert_close(tower(images), token)


def test_a_model_without_such_towers_has_nothing_to_write(tmp_path: Path) -> None:
    class Model:
        """Of which nothing else is asked."""

        config = dscmr_flickr8k.experiment().method
        method = type("Method", (), {"towers": {}})()

    with pytest.raises(XmrError, match=r"--transformers writes towers of the kind transformers.* torchvision, cnn"):
        save_transformers(Model(), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
