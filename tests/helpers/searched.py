"""A run that has learnt the tiny samples, for the tests of search: `pytest_plugins = ["tests.helpers.searched"]`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.forked import tiny, train
from tests.helpers.once import made_once
from xmr_e2e.methods.deep_sm import DeepSm
from xmr_e2e.runs.experiment import Optimizer
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn

METHOD = DeepSm(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=16, dropout=0.0))
RATES = Optimizer(lr=3e-3, lr_overrides={"towers.text": 3e-2, "classifiers.text": 3e-2})


@pytest.fixture(scope="session")
def learnt_run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; its model tells the four classes of the tiny samples apart, by their pictures and by their texts.
    Shared: a test that changes files copies the folder first."""

    def learn(folder: Path) -> None:
        training = train(replace(tiny(tiny_shards, folder, METHOD, epochs=7), optimizer=RATES), folder)
        assert training.end() == 0, training.printed

    return made_once(tmp_path_factory, "learnt", learn) / "tiny" / "run"
