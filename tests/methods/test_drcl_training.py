"""DRCL's encoders between its stages, in whole trainings that are and are not interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

SMALL = Drcl(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=4), hidden=8, dim=6)


def trainer(folder: Path, shards: Path) -> Trainer:
    """One of two epochs a stage."""
    experiment = Experiment(
        name="tiny",
        data=Data(shards, image_size=32, load_size=32, words=WordVectors(dim=4), workers=0),
        method=SMALL,
        optimizer=Optimizer(lr=3e-3),
        train=Train(epochs=2, batch_size=20, runs=folder, checkpoint_steps=1, checkpoints_kept=50, report=False),
    )
    run = Run(folder / "run")
    if not run.folder.exists():
        run.start(experiment, environment(experiment, 1))
    return Trainer(experiment, run, make_accelerator(experiment.train))


def weights(folder: Path, checkpoint: str) -> Mapping[str, torch.Tensor]:
    return load_file(folder / "run" / "checkpoints" / checkpoint / "weights.safetensors")


@pytest.fixture(scope="module")
def trained(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    trainer(folder, tiny_shards).fit()
    return folder


@pytest.mark.slow
def test_a_training_draws_an_encoder_anew_where_its_consistency_begins(trained: Path) -> None:
    for number, modality in ((2, "image"), (3, "text")):
        before = weights(trained, f"stage-{number - 1:02d}-epoch-0001-step-000002")
        after = weights(trained, f"stage-{number:02d}-epoch-0000-step-000000")
        networks = [name for name in before if name.startswith(("towers", "encoders", "priors"))]
        changed = {".".join(name.split(".")[:2]) for name in networks if not before[name].equal(after[name])}
        assert f"encoders.{modality}" in changed
        # What is kept of the image's stage may be an earlier epoch.
        assert changed <= ({"encoders.text", "encoders.image", "towers.image"} if number == 3 else {"encoders.image"})


@pytest.mark.slow
@pytest.mark.parametrize("last", ["stage-02-epoch-0001-step-000001", "stage-02-epoch-0000-step-000000"])
def test_a_training_that_goes_on_inside_of_a_consistency_stage_keeps_its_encoder(
    trained: Path, last: str, tiny_shards: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        if folder.name > last:
            shutil.rmtree(folder)
    resumed = trainer(tmp_path, tiny_shards)
    assert resumed.begun_from is not None and resumed.begun_from.folder.name == last
    resumed.fit()
    lines = [
        [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        for folder in (trained, tmp_path)
    ]
    losses = [[line["loss"] for line in found if "loss" in line] for found in lines]
    assert losses[0] == losses[1]
    (one, two) = (load_file(folder / "run" / "model.safetensors") for folder in (trained, tmp_path))
    assert all(one[name].equal(two[name]) for name in one)
