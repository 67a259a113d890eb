"""Weights whose storage is not their own: views of one buffer, as LSTM and GRU have them on CUDA, and tied ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import xmr_e2e
from tests.helpers.forked import OF_THE_MACHINE, result, tiny, trainings
from tests.helpers.small_methods import IMAGE, METHODS
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.base import Method, MethodConfig
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.models.embed import embed_split
from xmr_e2e.models.model_folder import write_weights
from xmr_e2e.models.weights import plain_name, shapes_of
from xmr_e2e.runs.checkpoint import Checkpoint, TrainingProgress
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.evaluate import validation_scores
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.text import BiGru, BiLstmCnn
from xmr_e2e.training.checkpoints import Checkpoints
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

pytestmark = pytest.mark.slow

RECURRENT: dict[str, Callable[[], MethodConfig]] = {
    "alscor, BiLSTM": lambda: Alscor(image=IMAGE, text=BiLstmCnn(hidden=8, kernels=8), dim=4),
    "dscmr, BiGRU": lambda: Dscmr(image=IMAGE, text=BiGru(hidden=8), hidden=16, dim=8),
}
"""beside METHODS, of which semantic_sharing has a BiGRU of words"""
TRAININGS = {name: build for name, build in METHODS.items() if " " not in name and name != "probe"} | RECURRENT
"""those that take steps"""


def in_one_buffer(module: nn.Module) -> nn.Module:
    """The module with all its parameters as views of one buffer."""
    parameters = list(module.parameters())
    buffer = torch.cat([parameter.data.flatten() for parameter in parameters])
    for parameter, view in zip(parameters, buffer.split([parameter.numel() for parameter in parameters])):
        parameter.data = view.view_as(parameter)
    return module


def lay_out_as_on_cuda() -> None:
    """From here on, a method that goes to a device lies there as the recurrent layers of one on CUDA do."""
    Method.to = lambda self, *args, **kwargs: in_one_buffer(self)  # type: ignore[assignment, method-assign]


def fit(experiment: Experiment) -> Run:
    accelerator = make_accelerator(experiment.train)
    run = Run(experiment.train.runs / "tiny" / "run")
    if not run.exists:
        run.start(experiment, environment(experiment, 1))
    Trainer(experiment, run, accelerator).fit()
    return run


def timeless(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in OF_THE_MACHINE} for r in run.records()]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_goes_on_exactly_where_weights_are_views_of_one_buffer(
    name: str, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Method, "to", lambda self, *args, **kwargs: in_one_buffer(self))

    whole = tiny(tiny_shards, tmp_path / "whole", TRAININGS[name](), epochs=1, checkpoint_steps=2, checkpoints_kept=99)
    run = fit(whole)
    checkpoints = sorted((run.folder / "checkpoints").glob("stage-*"))
    shapes = shapes_of(xmr_e2e.load(run.folder).method)
    saved = load_file(checkpoints[0] / "weights.safetensors")
    assert {key: tuple(value.shape) for key, value in saved.items()} == shapes
    again = replace(whole, train=replace(whole.train, runs=tmp_path / "again"))
    shutil.copytree(whole.train.runs, again.train.runs)
    for later in checkpoints[len(checkpoints) // 2 :]:
        shutil.rmtree(again.train.runs / later.relative_to(whole.train.runs))
    resumed = fit(again)
    assert timeless(resumed) == timeless(run)
    weights = [load_file(each.folder / "model.safetensors") for each in (run, resumed)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.processes
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_two_processes_save_such_weights_whole(zero: int, tiny_shards: Path, tmp_path: Path) -> None:
    """DistributedDataParallel and ZeRO: stopped after each checkpoint, and gone on with."""
    method = RECURRENT["alscor, BiLSTM"]()
    experiment = tiny(tiny_shards, tmp_path, method, epochs=1, zero=zero, checkpoint_steps=2, checkpoints_kept=99)
    with trainings(experiment, tmp_path, prepare=lay_out_as_on_cuda, processes=2) as started:
        assert [training.end() for training in started] == [0, 0], started[0].printed
    run = Run(tmp_path / "tiny" / "run")
    expected, _ = result(run.folder)
    model = xmr_e2e.load(run.folder)
    embedded = embed_split(model.method, model.data, model.tokenizer, "val")
    # The ranks' running statistics differ, and the first one's are saved: what was validated must be that model.
    assert expected[-1]["val"] == pytest.approx(validation_scores(model.method, embedded), abs=1e-6)
    shapes = shapes_of(model.method)
    checkpoints = sorted((run.folder / "checkpoints").glob("stage-*"))
    saved = load_file(checkpoints[1] / "weights.safetensors")
    assert {key: tuple(value.shape) for key, value in saved.items()} == shapes
    for later in checkpoints[2:]:
        shutil.rmtree(later)
    with trainings(experiment, tmp_path, prepare=lay_out_as_on_cuda, processes=2) as started:
        assert [training.end() for training in started] == [0, 0], started[0].printed
    assert result(run.folder)[0] == expected


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECURRENT)
def test_a_training_on_cuda_goes_on_with_all_its_weights(name: str, tiny_shards: Path, tmp_path: Path) -> None:
    train = {"epochs": 1, "checkpoint_steps": 2, "checkpoints_kept": 99}
    experiment = tiny(tiny_shards, tmp_path, TRAININGS[name](), **train)
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    run = Run(tmp_path / "tiny" / "run")
    before = timeless(run)
    for later in sorted((run.folder / "checkpoints").glob("stage-*"))[2:]:
        shutil.rmtree(later)
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    for old, new in zip(before, timeless(run), strict=True):
        assert old.get("samples") == new.get("samples")
        assert new.get("loss", {}) == pytest.approx(old.get("loss", {}), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in TRAININGS if "cca" not in name])
def test_a_model_that_was_trained_on_cuda_embeds_the_same_on_a_cpu(
    name: str, tiny_shards: Path, tmp_path: Path
) -> None:
    """Not of CCA and DCCA, whose whitening by 40 samples multiplies the rounding of TF32 (to 3e-2 on an H200)."""
    experiment = tiny(tiny_shards, tmp_path, TRAININGS[name](), epochs=1)
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    model = xmr_e2e.load(tmp_path / "tiny" / "run")
    assert next(model.method.parameters()).is_cuda
    on_gpu = embed_split(model.method, model.data, model.tokenizer, "test")
    model.method.cpu()
    on_cpu = embed_split(model.method, model.data, model.tokenizer, "test")
    for modality, rows in on_cpu.embeddings.items():
        torch.testing.assert_close(torch.as_tensor(on_gpu.embeddings[modality]).cpu(), torch.as_tensor(rows),
                                   rtol=1e-3, atol=1e-3)  # fmt: skip


# One by one


def tied() -> nn.Module:
    module = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
    module["second"].weight = module["first"].weight
    return module


@pytest.mark.parametrize("make", [tied, lambda: in_one_buffer(nn.LSTM(4, 4, bidirectional=True))])
def test_each_name_is_saved_with_its_values(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    module = make()
    write_weights(tmp_path, module.state_dict(), shapes_of(module))
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == module.state_dict().keys()
    assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())


def test_a_view_that_is_laid_out_otherwise_is_saved(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"weight": weight, "turned": weight.t()}
    write_weights(tmp_path, state, {name: tuple(value.shape) for name, value in state.items()})
    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in state.items())


def test_weights_that_would_be_lost_end_the_writing(tmp_path: Path) -> None:
    module = nn.LSTM(4, 4)
    state = module.state_dict()
    without: dict[str, Tensor] = {name: value for name, value in state.items() if "bias" not in name}
    with pytest.raises(XmrError, match=r"model.safetensors: the weights bias_ih_l0, bias_hh_l0 would not be saved"):
        write_weights(tmp_path, without, shapes_of(module))
    with pytest.raises(XmrError, match=r"the weights weight_hh_l0 would not be saved"):
        write_weights(tmp_path, state | {"weight_hh_l0": torch.zeros(0)}, shapes_of(module))
    assert not list(tmp_path.iterdir())


def test_names_are_those_of_the_plain_module() -> None:
    for wrapped in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        assert plain_name(f"{wrapped}towers.image.weight") == "towers.image.weight"


def test_the_checkpoints_of_earlier_versions_are_gone_on_with(tmp_path: Path) -> None:
    """They have the weights where Accelerate puts them, from several processes and under dynamo with a prefix."""
    accelerator, model = Accelerator(cpu=True), nn.Linear(3, 2)
    checkpoints = Checkpoints(accelerator, model, tmp_path, kept=2)
    accelerator.prepare(model)
    checkpoints.save(TrainingProgress(0, 1))
    folder = tmp_path / "checkpoints" / "stage-00-epoch-0001-step-000000"
    old = {name: value.clone() for name, value in model.state_dict().items()}
    (folder / "weights.safetensors").unlink()
    save_file({f"_orig_mod.module.{name}": value for name, value in old.items()}, folder / "model.safetensors")
    with torch.no_grad():
        model.weight.zero_()
    found = Checkpoint(folder, TrainingProgress(0, 1), zero=0, world_size=1)
    checkpoints.load(found)
    assert torch.equal(model.weight, old["weight"])
    save_file({"weight": old["weight"]}, folder / "model.safetensors")  # as on CUDA
    with pytest.raises(XmrError, match=r"model.safetensors has not all weights of this training: .*\"bias\""):
        checkpoints.load(found)
