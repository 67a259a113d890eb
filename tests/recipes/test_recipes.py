"""Every recipe: its docstring can be followed, and its configuration trains, each stage, on a miniature.

Recipes are found by their files, so a new one is tested without a change here.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tyro
from torch import Tensor
from torchvision import models

from tests import ROOT
from tests.helpers.miniatures import BATCH, build_narrow, miniatures, small
from tests.helpers.recipes import RECIPES, fresh_accelerator, options_of, recipe
from xmr_e2e.errors import XmrError
from xmr_e2e.methods.base import Method
from xmr_e2e.runs.environment import environment
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.regions import FasterRcnn
from xmr_e2e.training import launch, processes
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.trainer import Trainer

pytestmark = pytest.mark.slow

REPEATED = 6
"""lines of code that two recipes do not share"""
FIRST_LAYER = {"pixels": 4, "tokens": 2}
"""dimensions of the weights of a first convolution, and of word vectors"""


# ---- what the docstring says


def docstring(name: str) -> str:
    return str(recipe(name).__doc__)


def commands(name: str, beginning: str) -> list[list[str]]:
    """The docstring's command lines with this beginning, as words."""
    lines = docstring(name).splitlines()
    return [shlex.split(line) for line in lines if line.startswith(f"    {beginning}")]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_named_after_its_file(name: str) -> None:
    assert recipe(name).experiment().name == name
    assert 20 <= len((ROOT / "recipes" / f"{name}.py").read_text().splitlines()) <= 65


def test_no_recipe_repeats_anothers_lines() -> None:
    """A setting stands once: what a second recipe shares with it, it imports."""
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted((ROOT / "recipes").rglob("*.py")):
        lines = code_lines(path)
        for start in range(len(lines) - REPEATED + 1):
            piece = tuple(lines[start : start + REPEATED])
            assert seen.setdefault(piece, path.name) == path.name, f"{path.name} repeats {seen[piece]}: {piece}"


def code_lines(path: Path) -> list[str]:
    """All behind a recipe's docstring but blank lines and imports."""
    lines = path.read_text().split('"""', 2)[2].splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(("from ", "import "))]


@pytest.mark.parametrize("name", RECIPES)
def test_the_builder_of_the_docstring_accepts_its_options_and_fills_the_recipes_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((python, dash_m, module, raw, out, *options),) = commands(name, "python -m preprocessing.")
    assert (python, dash_m, raw) == ("python", "-m", "RAW")
    assert Path(out) == recipe(name).experiment().data.shards
    monkeypatch.chdir(tmp_path)
    is_folder = (ROOT / module.replace(".", "/")).is_dir()
    started = importlib.import_module(f"{module}.__main__" if is_folder else module)
    builder = getattr(started, module.rpartition(".")[2])
    # An option that the builder does not know ends in SystemExit, before it looks for the raw data.
    with pytest.raises(XmrError, match="RAW"):
        tyro.cli(builder, args=[raw, out, *options], config=(tyro.conf.OmitArgPrefixes,))


@pytest.mark.parametrize("name", RECIPES)
def test_the_launch_lines_of_the_docstring_start_this_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = commands(name, "python recipes/")
    assert [words[1] for words in lines] == [f"recipes/{name}.py"] * len(lines)
    plain, *changed = [parsed(name, words[2:], monkeypatch) for words in lines]
    assert plain == recipe(name).experiment()
    assert all(experiment != plain for experiment in changed)


def parsed(name: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """What `main` makes of a command line."""
    found: list[Experiment] = []
    monkeypatch.setattr(sys, "argv", [name, *options])
    monkeypatch.setattr(processes, "make_accelerator", lambda train: SimpleNamespace(is_main_process=True))
    monkeypatch.setattr(launch, "setup_logging", lambda is_main: None)
    monkeypatch.setattr(launch, "run_experiment", lambda experiment, accelerator: found.append(experiment))
    with pytest.raises(SystemExit) as end:
        launch.main(recipe(name).experiment)
    assert not end.value.code
    return found[0]


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.endswith(("_flickr8k", "_five_media"))])
def test_the_docstring_of_a_papers_own_dataset_gives_the_published_figures(name: str) -> None:
    if ", a baseline," not in docstring(name).splitlines()[0]:
        assert re.search(r"^Published, (mAP@all|mAP@50|NDCG): .*\d\.\d.*\d\.\d", docstring(name), re.MULTILINE)


@pytest.mark.parametrize("name", RECIPES)
def test_the_files_that_a_docstring_names_exist(name: str) -> None:
    assert all((ROOT / path).is_file() for path in re.findall(r"\b(?:docs|recipes|slurm)/[\w/]+\.\w+", docstring(name)))


def test_the_options_that_the_page_on_reproduction_names_exist() -> None:
    experiments = [recipe(name).experiment() for name in RECIPES]
    parts = ("data", "method", "optimizer", "train")
    known = {option for e in experiments for part in parts for option in options_of(getattr(e, part), f"--{part}")}
    named = set(re.findall(rf"--(?:{'|'.join(parts)})\.[\w.-]*\w", (ROOT / "docs" / "reproduction.md").read_text()))
    assert len(named) > 20
    assert named <= known


# ---- training


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Experiment], Path]:
    """The shards of a miniature of the experiment's dataset."""
    return miniatures(tmp_path_factory.mktemp("recipes"))


@pytest.fixture(scope="session")
def passed() -> list[Experiment]:
    """The experiments that were trained already, and were as they should be: a paper's recipes that differ in sizes,
    published figures and datasets alone are the same once all are small."""
    return []


@pytest.fixture
def narrow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-19 and AlexNet with narrow hidden fully-connected layers; all else is torchvision's."""
    monkeypatch.setattr(models, "get_model", build_narrow)


@dataclass
class Trained:
    """A training's method, what its state was before, and the lines of metrics.jsonl."""

    method: Method
    before: Mapping[str, Tensor]
    records: list[dict[str, Any]]

    def moved(self, name: str) -> bool:
        return not self.method.state_dict()[name].equal(self.before[name])

    def first_layer(self, modality: str, *, dimensions: int) -> str:
        """The name of the tower's first weights of so many dimensions."""
        named = self.method.towers[modality].named_parameters(prefix=f"towers.{modality}")
        return next(name for name, weights in named if weights.dim() == dimensions)


@pytest.fixture
def fit(tmp_path: Path, narrow_networks: None) -> Iterator[Callable[[Experiment], Trained]]:
    """Train as `run_experiment` does, but keep hold of the networks, and do not evaluate."""

    def train(experiment: Experiment) -> Trained:
        run = Run(tmp_path / "run")
        run.start(experiment, environment(experiment, 1))
        trainer = Trainer(experiment, run, make_accelerator(experiment.train))
        before = {name: value.clone() for name, value in trainer.method.state_dict().items()}
        trainer.fit()
        return Trained(trainer.method, before, run.records())

    with fresh_accelerator():
        yield train
    shutil.rmtree(tmp_path / "run", ignore_errors=True)  # pytest would keep a hundred megabytes of each


def check_stages(trained: Trained) -> None:
    """Two steps with finite losses of each stage, or a fit in closed form."""
    for stage in trained.method.stages:
        own = [record for record in trained.records if record["stage"] == stage.name]
        losses = [record["loss"] for record in own if "loss" in record]
        if stage.closed_form:
            assert not losses and "closed form" in own[0]["selected"]
        else:
            assert len(losses) >= 2
            assert all(math.isfinite(value) for terms in losses for value in terms.values())
            assert all({"total"} <= terms.keys() for terms in losses)


def test_a_recipe_of_full_size_runs_from_its_command_line(
    miniature: Callable[[Experiment], Path], tmp_path: Path
) -> None:
    """VGG-19 with all its 140 million weights, from the shards to the report."""
    shards = miniature(recipe("dscmr_pascal").experiment())
    options = (
        f"--data.shards {shards} --train.runs {tmp_path} --method.image.weights none --data.image-size 32 "
        f"--data.load-size 36 --data.words.dim 8 --data.workers 0 --train.epochs 1 --train.batch-size {BATCH}"
    )
    command = [sys.executable, str(ROOT / "recipes" / "dscmr_pascal.py"), *shlex.split(options)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert result.returncode == 0, result.stderr
        (run,) = (tmp_path / "dscmr_pascal").iterdir()
        assert (run / "model.safetensors").stat().st_size > 4 * 140e6
        assert (run / "report.html").exists()
        metrics = json.loads((run / "evaluation" / "test.json").read_bytes())["model"]["average"]
        assert 0 < metrics["mAP@all"] <= 1
    finally:
        shutil.rmtree(tmp_path / "dscmr_pascal", ignore_errors=True)  # a gigabyte


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_all_its_stages_down_to_pixels_and_words(
    name: str, miniature: Callable[[Experiment], Path], fit: Callable[[Experiment], Trained], passed: list[Experiment]
) -> None:
    whole = recipe(name).experiment()
    experiment = replace(small(whole, miniature(whole)), name="small")
    if experiment in passed:
        return
    trained = fit(experiment)
    check_stages(trained)
    if experiment.method.frozen:  # a probe: there is nothing that it would train
        return
    for modality, tower in experiment.method.towers.items():
        if isinstance(tower, FasterRcnn):
            # What finds the regions stands still; what describes them learns.
            assert trained.moved(f"towers.{modality}.box_head.fc6.weight") == (tower.trained == "box_head")
            detector = [key for key in trained.before if key.startswith(f"towers.{modality}.detector.")]
            assert detector and not any(map(trained.moved, detector))
        elif tower.input_kind in FIRST_LAYER:
            assert trained.moved(trained.first_layer(modality, dimensions=FIRST_LAYER[tower.input_kind]))
    passed.append(experiment)


@pytest.mark.parametrize("name", RECIPES)
def test_frozen_towers_stay_exactly_as_they_were(
    name: str, miniature: Callable[[Experiment], Path], fit: Callable[[Experiment], Trained], passed: list[Experiment]
) -> None:
    whole = recipe(name).experiment()
    experiment = replace(small(whole, miniature(whole)), name="small")
    # Without pretrained weights, so that they would learn first: tests/training/test_frozen_start.py.
    experiment = replace(experiment, method=replace(experiment.method, frozen=True, frozen_start="random"))
    if experiment in passed:
        return
    trained = fit(experiment)
    check_stages(trained)
    assert trained.method.frozen
    still = tuple(f"towers.{modality}." for modality in trained.method.frozen)
    moved = {key for key in trained.before if trained.moved(key)}
    assert not {key for key in moved if key.startswith(still)}
    assert moved  # the heads
    passed.append(experiment)
