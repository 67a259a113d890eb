"""Configurations as YAML: recipe, file and command line agree; what is written by hand is read as it is meant."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests import ROOT
from tests.helpers.made_runs import Made
from xmr_e2e.cli import main
from xmr_e2e.configuration import to_document
from xmr_e2e.errors import XmrError
from xmr_e2e.recipes.dscmr_flickr8k import experiment as dscmr
from xmr_e2e.runs.config_file import _Dumper, _Loader, read_yaml, to_yaml
from xmr_e2e.runs.experiment import Experiment, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiGru
from xmr_e2e.training.launch import parse

pytestmark = pytest.mark.slow

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*.py"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    return path


def read(tmp_path: Path, text: str) -> Experiment:
    return read_yaml(written(tmp_path, text), dscmr())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_its_file_and_its_command_line_agree(name: str, tmp_path: Path) -> None:
    recipe = importlib.import_module(f"xmr_e2e.recipes.{name}").experiment
    whole = written(tmp_path, to_yaml(recipe()))
    assert parse(recipe, ["--config", str(whole)]) == parse(recipe, []) == recipe()
    assert parse(dscmr, [f"--config={whole}"]) == recipe()
    few = written(tmp_path, "optimizer: {lr: 3e-7}\ntrain:\n  batch-size: 12\n")
    by_words = ["--optimizer.lr", "3e-7", "--train.batch-size", "12"]
    said = parse(recipe, by_words)
    assert parse(recipe, ["--config", str(few)]) == said
    both = parse(recipe, [*by_words[:2], "--config", str(few), "--train.batch-size", "24"])
    assert both == replace(said, train=replace(said.train, batch_size=24))


def test_a_runs_configuration_starts_its_training_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Made(train=Train(seed=7, epochs=3)).write(tmp_path / "run")
    begun = Run(folder).experiment()
    assert main(["config", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert main(["config", str(folder), "--out", str(tmp_path / "run.yaml")]) == 0
    assert (tmp_path / "run.yaml").read_text() == printed
    again = parse(dscmr, ["--config", str(tmp_path / "run.yaml")])
    assert again == replace(begun, train=replace(begun.train, name=None, resume=None))


def test_a_file_may_be_json_with_the_classes_of_a_runs_own(tmp_path: Path) -> None:
    own = replace(dscmr(), method=replace(dscmr().method, image=ImageTower("resnet18")))
    assert read(tmp_path, json.dumps(to_document(own))) == own


def test_another_tower_begins_with_its_own_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "method:\n  dim: 77\n  text: {type: 'xmr_e2e.towers.text:BiGru', hidden: 9}\n")
    assert found.method == replace(dscmr().method, dim=77, text=BiGru(hidden=9))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer: {lrr: 1}", r"options\.yaml: optimizer: 'lrr' is no option; did you mean lr\?"),
        ("optimizers: {lr: 1}", "'optimizers' is no option; did you mean optimizer"),
        ("qqq: 1", "'qqq' is no option; there are data, method, name, optimizer, schedule, train"),
        ("optimizer: {lr: fast}", "optimizer: lr: should be a number, not 'fast'"),
        ("optimizer: 3", "optimizer: should be a configuration"),
        ("train: {epochs: -3}", "--train.epochs must be at least 1, not -3"),
        ("train: {report: yes}", "report: should be true or false, not 'yes'"),
        ("optimizer: {lr: 1, lr: 2}", "'lr' is there twice"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("- 1", "should have options, such as"),
        ("a: [1", "no YAML that can be read"),
        ("[" * 5000, "no YAML that can be read"),
        ("a: !!python/object/apply:os.system [ls]", "no YAML that can be read"),
        ("method: {type: 'os:system'}", "is no configuration of this package"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(XmrError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"none\.yaml"):
        read_yaml(tmp_path / "none.yaml", dscmr())
    with pytest.raises(XmrError, match="at most 1,048,576 are read"):
        read(tmp_path, "# " + "a" * 2**20)


def test_a_run_that_is_gone_on_with_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match=r"--train\.resume"):
        parse(dscmr, ["--config", str(written(tmp_path, "{}")), "--train.resume", "runs/a"])
    with pytest.raises(XmrError, match="--config needs a YAML file"):
        parse(dscmr, ["--config"])


@given(st.one_of(st.text(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False)))
def test_values_come_back_as_they_were(value: object) -> None:
    text = yaml.dump({"value": value}, Dumper=_Dumper)
    found = yaml.load(text, Loader=_Loader)["value"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), (".5", 0.5), ("3", 3), ("no", "no"), ("on", "on"), ("true", True), ("null", None), ("1_0", "1_0"),
     ("0x10", "0x10"), ("12:30", "12:30"), ("2026-01-02", "2026-01-02"), ("'3'", "3")],
)  # fmt: skip
def test_numbers_and_words_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = yaml.load(f"a: {text}", Loader=_Loader)["a"]
    assert found == value and type(found) is type(value)
