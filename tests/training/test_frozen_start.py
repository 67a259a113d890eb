"""A training whose towers learn something before they stand still: what they learn, and going on in its middle."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors.torch import load_file

import xmr_e2e
from tests.helpers.forked import free_port, run_ranks, tiny
from tests.helpers.ranks import assert_same
from tests.helpers.small_methods import DATASET, METHODS, batch
from tests.helpers.stepped import Made
from xmr_e2e.data.batch import multi_hot
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.stages import StepContext
from xmr_e2e.methods.start import StartLayer
from xmr_e2e.models import embed as embed_module
from xmr_e2e.models.feature_store import FeatureStore
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.signal_handlers import STOPPED
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.gradcache import backward
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.setup import feature_store
from xmr_e2e.training.signals import Action, Signals

pytestmark = pytest.mark.slow

METHOD = Dscmr(
    image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), hidden=16, dim=8, frozen=True
)


def train(experiment: Experiment) -> Path:
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    return experiment.train.runs / "tiny" / "run"


def losses(run: Path) -> list[tuple[str, int, dict[str, float]]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["stage"], line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def finished(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(tiny_shards, tmp_path_factory.mktemp("finished"), METHOD, epochs=6))


def test_towers_have_learnt_the_labels_when_they_stand_still(finished: Path) -> None:
    model = xmr_e2e.load(finished)
    model.data = replace(model.data, workers=0)
    reader = SplitReader(model.data.shards, "test")
    labels = multi_hot([reader.labels(position) for position in range(len(reader))], 4)
    for modality, layer in model.method.starts.items():
        assert isinstance(layer, StartLayer)
        known = embed_module.cache_frozen_features(model.method, model.data, model.tokenizer, ("test",), (modality,))
        guesses = layer.predict(known["test"][modality].output).argmax(1)
        accuracy = float((guesses == labels.argmax(1)).float().mean())
        assert accuracy > 0.5, f"{modality}: {accuracy}"  # of four classes
    stages = dict.fromkeys(stage for stage, _, _ in losses(finished))
    assert list(stages) == ["labels-image", "labels-text", "training"]


def test_the_features_of_the_methods_own_stage_are_those_after_the_start(finished: Path) -> None:
    stored = list((finished.parent.parent / "features").iterdir())
    assert len(stored) == 4  # two modalities of two splits: nothing was extracted before
    model = xmr_e2e.load(finished)
    model.data = replace(model.data, workers=0)
    again = embed_module.cache_frozen_features(model.method, model.data, model.tokenizer, ("train",))
    held = [load_file(path)["output"] for path in stored]
    for features in again["train"].values():
        assert any(rows.shape == features.output.shape and torch.allclose(rows, features.output) for rows in held)


@pytest.fixture(scope="module")
def expected(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int, dict[str, float]]]:
    """The losses of a training that nothing stopped."""
    return losses(train(tiny(tiny_shards, tmp_path_factory.mktemp("whole"), METHOD, epochs=2, features="none")))


@pytest.mark.parametrize("steps", [7, 18, 27])
def test_stopped_in_any_stage_it_goes_on_as_if_nothing_had_been(
    steps: int,
    expected: list[tuple[str, int, dict[str, float]]],
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tiny(tiny_shards, tmp_path, METHOD, epochs=2, features="none")
    asked = 0

    def synchronize(self: Signals) -> Action:
        nonlocal asked
        asked += 1
        return Action.STOP if asked == steps else Action.NOTHING

    with monkeypatch.context() as patch:
        patch.setattr(Signals, "synchronize", synchronize)
        assert run_experiment(whole, make_accelerator(whole.train)) == STOPPED
    run = tmp_path / "tiny" / "run"
    assert 0 < len(losses(run)) < len(expected)
    again = replace(whole, train=replace(whole.train, name=None, resume=run))
    assert run_experiment(again, make_accelerator(again.train)) == 0
    assert [each[:2] for each in losses(run)] == [each[:2] for each in expected]
    for (_, _, found), (_, _, other) in zip(losses(run), expected):
        assert found == pytest.approx(other, rel=1e-5)


def test_a_second_seed_finds_what_does_not_depend_on_it(
    tiny_shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As published weights do not; here the networks are drawn alike."""
    caplog.set_level(logging.INFO)
    torch_seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: torch_seed(0 if seed in (3, 4) else seed))
    method = replace(METHOD, frozen_start="random")
    for seed in (3, 4):
        experiment: Any = tiny(tiny_shards, tmp_path, method, epochs=1, seed=seed, name=f"seed{seed}")
        assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    assert len(list((tmp_path / "features").iterdir())) == 4
    assert caplog.text.count("extracted in") == 4 and caplog.text.count("found in") == 4


def start(rank: int = 0, world: int = 1, micro_batches: int = 1) -> Iterator[tuple[str, torch.Tensor]]:
    """Losses and gradients of each start's stage, on this rank's part of 12 samples."""
    torch.manual_seed(0)
    config: Any = METHODS["dscmr"](frozen=True)
    config = replace(config, image=replace(config.image, name="squeezenet1_1"))  # without batch statistics
    method, whole = config.build(DATASET).double().train(), batch()
    for stage in method.training_stages[:2]:
        method.zero_grad()
        method.set_trained(stage, ())
        (modality,) = stage.modalities
        inputs = whole.inputs[modality]
        part = whole.with_inputs({modality: inputs.double() if isinstance(inputs, torch.Tensor) else inputs})
        model = torch.nn.parallel.DistributedDataParallel(method) if world > 1 else method
        context, own = StepContext(stage=stage.name), part._rows(slice(7 * rank, 12 if rank == world - 1 else 7))
        terms = backward(Accelerator(cpu=True), model, own, micro_batches=micro_batches, context=context, seed=(0,))
        yield from ((f"{stage.name}: {name}", term) for name, term in terms.items())
        yield from ((name, p.grad.clone()) for name, p in method.named_parameters() if p.grad is not None)


def run_rank(rank: int, port: int, shards: Path, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found: dict[str, Any] = {"start": dict(start(rank, 2)), "pieces": dict(start(rank, 2, 2))}
    made = Made(shards, frozen=True)
    for time in ("first", "second"):
        known = embed_module.cache_frozen_features(
            made.method, made.data, made.tokenizer, ("train",), store=FeatureStore(out / "features")
        )
        found[time] = {name: features.output.clone() for name, features in known["train"].items()}
    torch.save(found, out / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.processes
def test_two_processes_start_as_one_does_and_share_what_one_of_them_writes(tiny_shards: Path, tmp_path: Path) -> None:
    run_ranks(run_rank, (free_port(), tiny_shards, tmp_path), 2)
    made, expected = Made(tiny_shards, frozen=True), dict(start())
    plain = embed_module.cache_frozen_features(made.method, made.data, made.tokenizer, ("train",))
    assert len(list((tmp_path / "features").iterdir())) == 2
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_same(found["start"], expected)
        assert_same(found["pieces"], expected)
        for name, features in plain["train"].items():
            assert torch.equal(found["first"][name], found["second"][name])
            torch.testing.assert_close(found["first"][name], features.output)


def test_features_are_kept_beside_the_runs_or_where_it_is_said(tmp_path: Path) -> None:
    for said, folder in (("auto", tmp_path / "runs/features"), (str(tmp_path / "own"), tmp_path / "own")):
        store = feature_store(Train(runs=tmp_path / "runs", features=said))
        assert store and store.folder == folder
    assert feature_store(Train(features="none")) is None
