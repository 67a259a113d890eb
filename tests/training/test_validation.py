"""Validation by the loss: its mean over the split's samples, whatever the batches are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.training.test_step import words_of
from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.data.config import Data
from xmr_e2e.data.loader import Loader
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.base import StepContext
from xmr_e2e.methods.cca import Cca
from xmr_e2e.towers.base import DatasetInfo
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.checkpoints import _remove_all
from xmr_e2e.training.validation import validation_loss

METHOD = Cca(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), dim=4)


@pytest.mark.parametrize("batch_size", [5, 12])
def test_the_loss_is_the_mean_over_samples(batch_size: int, tiny_shards: Path) -> None:
    data = Data(tiny_shards, image_size=32, load_size=40, words=WordVectors(dim=6), workers=0)
    tokenizer, words = words_of(tiny_shards)
    torch.manual_seed(0)
    method = METHOD.build(DatasetInfo(4, False, 32, torch.from_numpy(words))).train()
    batches = BatchDataset(data, "val", METHOD.input_kinds, tokenizer, seed=0)
    found = validation_loss(method, Loader(batches, batch_size), StepContext("labels"), torch.device("cpu"))
    assert method.training

    method.eval()
    whole = next(Loader(batches, 12).epoch())
    with torch.no_grad():
        logits = method.represent(whole.prepared().inputs)
    expected = {name: F.cross_entropy(rows, whole.labels).item() for name, rows in logits.items()}
    assert found["loss"] == found["total"] == pytest.approx(sum(found[name] for name in expected), rel=1e-5)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_folders_that_are_gone_already_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "there" / "in it").mkdir(parents=True)
    _remove_all([tmp_path / "gone", tmp_path / "there"])
    assert not any(tmp_path.iterdir())
