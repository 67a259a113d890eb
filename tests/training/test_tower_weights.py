"""Towers and priors that begin with another run's weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import xmr_e2e
from tests.helpers.forked import tiny
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.alscor import Alscor
from xmr_e2e.methods.drcl import Drcl
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.methods.mars import Mars
from xmr_e2e.methods.sdml import Sdml
from xmr_e2e.models.rebuild import without_weights
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiGru, TextCnn
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.tower_weights import given_towers, load_given_prior, load_given_weights

pytestmark = pytest.mark.slow

IMAGE, TEXT = ImageTower("resnet10_slim", weights="none"), TextCnn(kernels=8)
METHOD = Dscmr(image=IMAGE, text=TEXT, hidden=16, dim=8)


def train(experiment: Experiment) -> Path:
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    return experiment.train.runs / "tiny" / "run"


@pytest.fixture(scope="module")
def first(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run."""
    return train(tiny(tiny_shards, tmp_path_factory.mktemp("first"), METHOD, epochs=1, seed=5))


def from_run(run: Path, *modalities: str, **options: Any) -> Dscmr:
    towers = {"image": IMAGE, "text": TEXT}
    given = {name: replace(towers[name], weights=str(run)) for name in modalities}
    return replace(METHOD, **given, **options)


def same_tower(one: SavedModel, other: SavedModel, modality: str) -> bool:
    mine, theirs = (each.method.towers[modality].state_dict() for each in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_frozen_training_keeps_both_towers_and_the_tokeniser_and_needs_the_run_no_more(
    first: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(first, source)
    method = from_run(source, "image", "text", frozen=True)
    assert method.published == {"image", "text"} and given_towers(method) == {"image": source, "text": source}
    experiment = tiny(tiny_shards, tmp_path / "runs", method, epochs=1, seed=1)
    run = train(experiment)
    theirs, ours = xmr_e2e.load(source), xmr_e2e.load(run)
    assert same_tower(theirs, ours, "image") and same_tower(theirs, ours, "text")
    assert not ours.method.starts  # they have learnt something already
    assert theirs.tokenizer is not None and ours.tokenizer is not None
    assert theirs.tokenizer.to_document() == ours.tokenizer.to_document()
    assert not given_towers(without_weights(method))
    shutil.rmtree(source)
    shutil.rmtree(run / "evaluation")
    again = replace(experiment, train=replace(experiment.train, name=None, resume=run))
    assert run_experiment(again, make_accelerator(again.train)) == 0  # goes on with the measuring
    (run / "model.safetensors").rename(tmp_path / "kept")
    ours.save_pretrained(tmp_path / "exported")
    assert same_tower(xmr_e2e.load(tmp_path / "exported"), theirs, "text")


def test_a_tower_of_an_exported_model_goes_on_learning(first: Path, tiny_shards: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    xmr_e2e.load(first).save_pretrained(exported)
    run = train(tiny(tiny_shards, tmp_path / "runs", from_run(exported, "text"), epochs=1))
    begun = Run(run).words()[1]
    assert not begun.any()  # the vectors are the tower's own
    assert not same_tower(xmr_e2e.load(first), xmr_e2e.load(run), "text")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: {"text": TextCnn(kernels=9, weights=run)},
            r"kernels 8, and this one 9: set --method\.text\.kernels",
        ),
        (lambda run: {"text": BiGru(hidden=8, weights=run)}, r"its text tower is of the kind .*choose the same kind"),
        (
            lambda run: {"image": ImageTower("squeezenet1_1", weights=run)},
            r"name resnet10_slim, and this one squeezenet",
        ),
        (lambda run: {"text": TextCnn(weights=f"{run}/none")}, r"--method\.text\.weights .*/none: no run folder"),
        (lambda run: {"text": TextCnn(weights=str(Path(run).parent))}, r"is no run, but holds runs"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(
    change: Callable[[str], Any], message: str, first: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    method = replace(METHOD, **change(str(first)))
    with pytest.raises(XmrError, match=message):
        train(tiny(tiny_shards, tmp_path, method, epochs=1))
    assert not (tmp_path / "tiny").exists()


def test_a_method_begins_with_all_weights_of_another_run(first: Path, tiny_shards: Path, tmp_path: Path) -> None:
    still = replace(METHOD, weights=str(first), frozen=True)  # of which nothing needs a stage of its own
    assert still.published == {"image", "text"} and not given_towers(without_weights(still))
    experiment = tiny(tiny_shards, tmp_path / "runs", still, epochs=1, seed=1)
    experiment = replace(experiment, optimizer=replace(experiment.optimizer, lr=0.0, weight_decay=0.0))
    ours, theirs = xmr_e2e.load(train(experiment)), xmr_e2e.load(first)
    mine, others = ours.method.state_dict(), theirs.method.state_dict()
    assert mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)
    assert ours.tokenizer is not None and theirs.tokenizer is not None
    assert ours.tokenizer.to_document() == theirs.tokenizer.to_document()


@pytest.mark.parametrize("freezes", [False, True])
def test_statistics_of_batches_stay_those_of_the_weights_where_that_is_asked_for(
    first: Path, tiny_shards: Path, tmp_path: Path, freezes: bool
) -> None:
    goes_on = replace(METHOD, weights=str(first), image=replace(IMAGE, freeze_batch_norm=freezes))
    experiment = tiny(tiny_shards, tmp_path / "runs", goes_on, epochs=1)
    experiment = replace(experiment, optimizer=replace(experiment.optimizer, lr=0.0, weight_decay=0.0))
    ours, theirs = xmr_e2e.load(train(experiment)), xmr_e2e.load(first)
    assert same_tower(ours, theirs, "image") == freezes and same_tower(ours, theirs, "text")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (replace(METHOD, dim=9), r"--method\.weights .*: its method is another, or has other widths: .*not \(9, 16\)"),
        (
            replace(METHOD, classifier="closed_form"),
            r"another, .*classifier\.weight is not in the networks",
        ),
        (replace(METHOD, text=TextCnn(kernels=9)), r"--method\.weights .*kernels 8, and this one 9"),
        (Alscor(image=IMAGE, text=TEXT, dim=4), r"its method is another"),
    ],
)
def test_weights_of_another_method_are_refused(
    method: Any, message: str, first: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(XmrError, match=message):
        train(tiny(tiny_shards, tmp_path, replace(method, weights=str(first)), epochs=1))
    assert not (tmp_path / "tiny").exists()


def test_words_of_another_width_and_modalities_that_are_not_there_are_refused(
    first: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    experiment = tiny(tiny_shards, tmp_path, from_run(first, "text"), epochs=1)
    wider = replace(experiment, data=replace(experiment.data, words=WordVectors(dim=7)))
    with pytest.raises(XmrError, match=r"--data\.words\.dim 6, and this training's are to be those of .* 7"):
        train(wider)
    audio: Any = Mars(image=IMAGE, text=TEXT, audio=replace(IMAGE, weights=str(first)), dim=8)
    with pytest.raises(XmrError, match=r"that model has no audio tower; it has image, text"):
        load_given_weights(xmr_e2e.load(first).method, audio)


# ---- priors


@pytest.fixture(scope="module")
def prior_run(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of DRCL, whose prior has learned."""
    method = Drcl(image=IMAGE, text=TEXT, hidden=16, dim=8)
    return train(tiny(tiny_shards, tmp_path_factory.mktemp("prior"), method, epochs=1))


@pytest.mark.parametrize("kind", [Sdml, Mars])
def test_a_fixed_prior_may_be_the_one_that_drcl_selected(
    kind: Any, prior_run: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(prior_run, source)
    method = kind(image=IMAGE, text=TEXT, dim=8, prior_weights=str(source))
    experiment = tiny(tiny_shards, tmp_path / "runs", method, epochs=1)
    run = train(experiment)
    selected, used = (xmr_e2e.load(each).method.get_buffer("prior").cpu() for each in (source, run))
    assert torch.equal(used, selected)
    columns = torch.nn.functional.normalize(used, dim=0)
    assert not torch.allclose(columns.T @ columns, torch.eye(columns.shape[1]), atol=1e-4)  # it is no orthogonal one
    shutil.rmtree(source)
    shutil.rmtree(run / "evaluation")
    again = replace(experiment, train=replace(experiment.train, name=None, resume=run))
    assert run_experiment(again, make_accelerator(again.train)) == 0  # needs the other run no more


@pytest.mark.parametrize(
    ("options", "run", "message"),
    [
        (
            {"dim": 9},
            "prior",
            r"--method\.prior-weights .*: its prior is of 8 dimensions, .* of 9: set --method\.dim 8",
        ),
        ({}, "first", r"--method\.prior-weights .*: DSCMR has no prior; name a run or exported model of DRCL"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(
    options: dict[str, int], run: str, message: str, first: Path, prior_run: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    given = {"first": first, "prior": prior_run}[run]
    method = Sdml(**{"image": IMAGE, "text": TEXT, "dim": 8, "prior_weights": str(given)} | options)  # type: ignore[arg-type]
    with pytest.raises(XmrError, match=message):
        train(tiny(tiny_shards, tmp_path, method, epochs=1))
    assert not (tmp_path / "tiny").exists()


def test_a_prior_of_other_classes_is_refused(prior_run: Path) -> None:
    model = xmr_e2e.load(prior_run)
    model.config = Sdml(image=IMAGE, text=TEXT, dim=8, prior_weights=str(prior_run))
    load_given_prior(model)
    model.classes = model.classes[::-1]
    with pytest.raises(XmrError, match=r"its classes are others, or in another order"):
        load_given_prior(model)
