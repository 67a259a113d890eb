"""Models of small methods, as trainings leave them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tokenizers
import torch
import transformers

import xmr_e2e
from tests import ROOT
from tests.helpers.references import as_if_fitted
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import fit_words
from xmr_e2e.data.tokenizers import Tokenization
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import MethodConfig
from xmr_e2e.methods.cca import Cca
from xmr_e2e.runs.evaluate import evaluate_run
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.pretrained import PretrainedText, PretrainedVision
from xmr_e2e.towers.text import BiLstmCnn

METHOD = Alscor(image=ImageTower("resnet10_slim", "none"), text=BiLstmCnn(hidden=6, kernels=16), dim=4)
TEXTS = ["a picture of apple", "Here is ONE more leaf's shadow — isn’t it?", "…", "the sea, a" + " sun" * 50]


def make_model(
    shards: Path, config: MethodConfig = METHOD, tokens: Tokenization = Tokenization()
) -> xmr_e2e.SavedModel:
    """An untrained model, fitted to the words of these shards."""
    data = Data(
        shards,
        image_size=32,
        load_size=40,
        max_tokens=20,
        tokens=tokens,
        words=WordVectors(dim=8, min_count=1),
        workers=0,
    )
    tokenizer, vectors = fit_words(data)
    torch.manual_seed(0)
    method = as_if_fitted(config.build(DatasetInfo(4, False, 32, torch.from_numpy(vectors))))
    classes = ["apple", "leaf", "sea", "sun"]
    return xmr_e2e.SavedModel(config, data, classes, False, tokenizer, {}, method, "untrained")


def fresh(script: str, *arguments: str, cwd: Path) -> str:
    """The output of a new Python process, in a folder of its own, with this package on its path and no hub."""
    cwd.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def save_transformers(folder: Path) -> str:
    """A tiny CLIP with its tokeniser, as the hub has them; returns the folder."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "picture", "of", "apple", "the", "sea"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 30, "eos_token_id": 3}
    vision = {**small, "image_size": 32, "patch_size": 8}
    clip = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)  # type: ignore[arg-type]
    transformers.CLIPModel(clip).save_pretrained(folder)
    return str(folder)


def pretrained(shards: Path, folder: str) -> xmr_e2e.SavedModel:
    """A model whose towers are pretrained transformers from a folder."""
    config = Cca(image=PretrainedVision(folder), text=PretrainedText(folder), dim=4)
    return make_model(shards, config, Tokenization("transformers", name=folder))


def measured_run(folder: Path, shards: Path) -> Path:
    """A new run folder with a model and its figures on the test split."""
    folder.mkdir()
    model = make_model(shards)
    model.save(folder, model.method.state_dict(), "epoch 3, the best of some")
    evaluate_run(Run(folder), "test", draws=False)
    return folder
