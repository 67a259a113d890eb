"""Runs, models and configurations that an earlier version wrote, before modules and options had the names of today.

`saved/before_rooms.tar.gz` was written by version 0.1.0 at commit 1444fcf: the shards of a set of 40 samples, a
finished run and one that was stopped after four steps, the finished one's exported model, embeddings by it, and the
configuration of every recipe.
"""

from __future__ import annotations

import importlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import xmr_e2e
from tests import ROOT
from xmr_e2e.cli import main
from xmr_e2e.configuration import from_document, to_document
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.evaluate import evaluate_run
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.export import export
from xmr_e2e.runs.run import Run
from xmr_e2e.studies.runs import options_of
from xmr_e2e.training.hints import check_foreign_options
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator

TEXTS = ["a red cat in the park", "the small dog", "a dog"]
FEATURES = np.arange(18, dtype=np.float32).reshape(3, 6) / 10


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what was saved, which is the working directory: the run names its shards from there."""
    with tarfile.open(ROOT / "tests/saved/before_rooms.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["runs/tiny_alscor/finished", "model"])
def test_a_run_and_a_model_give_the_embeddings_that_they_gave(saved: Path, name: str) -> None:
    model, expected = xmr_e2e.load(saved / name), load_file(saved / "embeddings.safetensors")
    np.testing.assert_allclose(model.embed_texts(TEXTS), expected["text"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.embed_features("image", FEATURES), expected["image"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_is_measured_and_exported_as_before(saved: Path) -> None:
    run = Run(saved / "runs/tiny_alscor/finished")
    before = run.document("evaluation/test.json")
    evaluate_run(run, "test")
    after = run.document("evaluation/test.json")
    assert after.keys() == {*before, "training"} and after["training"] is None  # which its records do not have
    for side in ("model", "random"):
        found = {name: after[side]["average"][name] for name in before[side]["average"]}  # there are more today
        assert found == pytest.approx(before[side]["average"], abs=1e-6)
    export(run, saved / "again")
    again, model = xmr_e2e.load(saved / "again"), xmr_e2e.load(saved / "model")
    np.testing.assert_array_equal(again.embed_texts(TEXTS), model.embed_texts(TEXTS))


def test_tables_find_the_runs_and_know_their_options(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(saved / "runs"), "--metrics", "mAP@all", "--format", "csv"]) == 0
    printed = capsys.readouterr().out
    assert "ALSCOR" in printed and "tiny_alscor" in printed
    options = options_of(Run(saved / "runs/tiny_alscor/finished").document("config.json"))
    assert options["optimizer.kind"] == "adamw" and options["train.micro_batches"] == 2
    assert options["optimizer.lr_overrides.towers.text"] == 5e-4


def losses(run: Run) -> list[Any]:
    return [record["loss"] for record in run.records() if "loss" in record]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_losses_of_the_one_that_was_not_stopped(saved: Path) -> None:
    stopped, finished = (Run(saved / "runs/tiny_alscor" / name) for name in ("stopped", "finished"))
    assert 0 < len(losses(stopped)) < len(losses(finished))
    begun = stopped.experiment()
    experiment = replace(begun, train=replace(begun.train, resume=stopped.folder))
    assert run_experiment(experiment, make_accelerator(experiment.train)) == 0
    found, expected = losses(stopped), losses(finished)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one == pytest.approx(other, rel=1e-5)


def test_the_recipes_configurations_are_those_of_then(saved: Path) -> None:
    documents = json.loads((saved / "recipes.json").read_text())
    assert len(documents) == 31
    del documents["drcl_xmedianet"]  # which had pictures and texts alone, and has five modalities since
    # It had features of three modalities, of which it reads the files since.
    documents["drcl_xmedia_features"] = documents.pop("drcl_xmedia") | {"name": "drcl_xmedia_features"}
    for name, document in documents.items():
        then = from_document(Experiment, document, name)
        now = importlib.import_module(f"recipes.{name}").experiment()
        # Left open, they are by today's rule what they were then by default.
        assert now.train.select in (None, then.train.select) and now.train.protocol in (None, then.train.protocol)
        now = replace(now, train=replace(now.train, select=then.train.select, protocol=then.train.protocol))
        assert to_document(then) == to_document(now), name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--optimiser.lr", "--optimizer.lr"),
        ("--optimiser.parts.towers.image", "--optimizer.lr-overrides.towers.image"),
        ("--train.accumulate", "--train.micro-batches"),
        ("--data.also", "--data.extra-shards"),
        ("--data.augment.colour=0.2", "--data.augment.color"),
    ],
)
def test_an_option_of_then_is_refused_with_its_name_of_today(old: str, new: str) -> None:
    with pytest.raises(XmrError, match=f"{old.partition('=')[0]} is now {new}"):
        check_foreign_options([old, "1"])
