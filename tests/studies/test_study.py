"""Studies: what their variants are, which runs are there already, and what is said of those that were measured."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from tests import ROOT
from tests.helpers.built import write
from tests.helpers.made_runs import CLEAN, Made
from tests.helpers.study_runs import PROGRAM, recipe, write_manifest
from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.files import sha256_of
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.studies.files import find_studies, load_study
from xmr_e2e.studies.plan import plan_study
from xmr_e2e.studies.results import read_results
from xmr_e2e.studies.study import Study, Sweep, Variant, with_fields
from xmr_e2e.studies.study_page import write_study_page
from xmr_e2e.studies.study_table import render_study
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import BiGru
from xmr_e2e.training.selection import with_defaults

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import Slurm

pytest_plugins = ["tests.helpers.slurm_cluster"]


STUDY = Study(
    title="What DSCMR needs",
    recipes=(recipe(),),
    variants=(
        Variant("w/o J3", {"method.invariance": 0.0}),
        Variant("GRU", {"method.text": BiGru(hidden=8), "optimizer.lr": 0.01}),
    ),
    sweeps=(Sweep("method.common", (1e-4, 1e-3, 1e-2), "λ", is_logarithmic=True),),
    seeds=(0, 1),
    name="needs",
)


# ---- what a study is


def test_rows_are_the_recipe_its_variants_and_the_sweeps_points() -> None:
    rows = {row.variant.name: row.experiment for row in STUDY.rows}
    base = recipe()
    assert list(rows) == ["recipe", "w/o J3", "GRU", "λ = 0.0001", "λ = 0.001", "λ = 0.01"]
    assert rows["recipe"] == base
    assert isinstance(rows["w/o J3"].method, Dscmr) and rows["w/o J3"].method.invariance == 0
    assert rows["GRU"].optimizer.lr == 0.01 and rows["GRU"].method.towers["text"] == BiGru(hidden=8)
    assert rows["λ = 0.001"] == base


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method.invarance": 1.0}, "no field method.invarance; there are .*invariance"),
        ({"methods": 1.0}, "no field methods; there are method"),
        ({"method.common.value": 1.0}, "no field method.common.value"),
        ({"method.common": -1.0}, "--method.common"),
        ({"method.common": "much"}, "common"),
        ({"method.text": BiGru(), "method.text.hidden": 3}, "method.text is given as a whole, and a field of it"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_by_its_field(fields: dict[str, Any], message: str) -> None:
    study = replace(STUDY, variants=(Variant("odd", fields),))
    with pytest.raises(XmrError, match=f"variant 'odd' of mine: .*{message}"):
        _ = study.rows


def test_fields_that_are_only_possible_together_are_changed_at_once() -> None:
    tower = with_fields(recipe(), {"method.image": ImageTower("alexnet"), "method.text.widths": (2,), "name": "other"})
    assert tower.name == "other" and tower.method.towers["image"] == ImageTower("alexnet")


@pytest.mark.parametrize(
    "change",
    [
        {"recipes": ()},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"variants": (Variant("w/o J1"), Variant("W/O J1"))},
        {"recipes": (recipe(), recipe(Path("other")))},
    ],
)
def test_what_is_missing_or_there_twice_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(XmrError, match="study 'What DSCMR needs': "):
        replace(STUDY, **change)


# ---- the plan


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "shards/mine")
    return tmp_path / "shards/mine"


def start(run: Path, experiment: Experiment, seed: int, shards: Path) -> Path:
    train = replace(experiment.train, seed=seed, runs=run.parent.parent, name=run.name, checkpoints_kept=5)
    experiment = with_defaults(replace(experiment, train=train), load_manifest(shards))
    environment = {"manifest_sha256": sha256_of(shards / "manifest.json")}
    Run(run).start(replace(experiment, data=replace(experiment.data, workers=3)), environment)
    return run


EVALUATION = """
{"dataset": "mine", "split": "test", "selection": "",
 "model": {"figures": {"image_to_text": {"scores": {"mAP@all": 0.5}, "queries": 1}}, "average": {"mAP@all": 0.5}},
 "random": {"figures": {}, "average": {}}}
"""


def test_a_run_of_the_same_options_seed_and_data_counts_whoever_started_it(shards: Path, tmp_path: Path) -> None:
    study = replace(STUDY, recipes=(recipe(shards),), sweeps=())
    runs = tmp_path / "runs"
    by_name = {row.variant.name: row.experiment for row in study.rows}
    write(start(runs / "mine/anyhow", by_name["recipe"], 0, shards) / "evaluation/test.json", EVALUATION)
    start(runs / "mine/begun", by_name["w/o J3"], 1, shards)
    start(runs / "mine/begun-too", replace(by_name["GRU"], optimizer=Optimizer(lr=0.3)), 1, shards)
    other = start(runs / "mine/of-other-data", by_name["GRU"], 0, shards)
    write(other / "environment.json", '{"manifest_sha256": "other"}')
    plan = plan_study(study, runs)
    found = {(run.row.variant.name, run.seed): (run.state, run.folder.name) for run in plan.runs}
    assert found["recipe", 0] == ("measured", "anyhow")
    assert found["w/o J3", 1] == ("begun", "begun")
    new = [key for key, (state, _) in found.items() if state == "new"]
    assert new == [("recipe", 1), ("w/o J3", 0), ("GRU", 0), ("GRU", 1)]
    assert len({run.folder for run in plan.runs}) == 6
    with Run(runs / "mine/begun").in_use():
        assert plan_study(study, runs).count("running") == 1


def test_a_sweeps_point_that_is_the_recipe_is_no_run_of_its_own(shards: Path, tmp_path: Path) -> None:
    plan = plan_study(replace(STUDY, recipes=(recipe(shards),)), tmp_path / "runs")
    assert len(plan.runs) == 5 * 2
    (row,) = [row for row in plan.study.rows if row.variant.name == "λ = 0.001"]
    assert [(run.row.variant.name, run.seed) for run in plan.of_row(row)] == [("recipe", 0), ("recipe", 1)]


def test_a_study_that_has_changed_has_other_runs(shards: Path, tmp_path: Path) -> None:
    study = replace(STUDY, recipes=(recipe(shards),))
    longer = replace(study, recipes=(replace(recipe(shards), train=Train(epochs=7)),))
    names = [{run.folder for run in plan_study(each, tmp_path).runs} for each in (study, longer)]
    assert not names[0] & names[1]


def test_a_variant_of_the_selection_is_a_run_of_its_own(shards: Path, tmp_path: Path) -> None:
    variant = Variant("by mAP@50", {"train.select": "mAP@50"})
    study = replace(STUDY, recipes=(recipe(shards),), variants=(variant,), sweeps=(), seeds=(0,))
    start(tmp_path / "runs/mine/any", study.rows[0].experiment, 0, shards)
    states = [(run.row.variant.name, run.state) for run in plan_study(study, tmp_path / "runs").runs]
    assert states == [("recipe", "begun"), ("by mAP@50", "new")]


def test_chosen_rows_and_seeds_alone_are_planned(shards: Path, tmp_path: Path) -> None:
    study = replace(STUDY, recipes=(recipe(shards), recipe(tmp_path, "other")))
    plan = plan_study(study, tmp_path / "runs", only=("w/o J3",), seeds=(7,))
    assert [(run.row.key, run.seed, run.state) for run in plan.runs] == [
        ("mine/wo-j3", 7, "new"),
        ("other/wo-j3", 7, "no shards"),
    ]
    with pytest.raises(XmrError, match="--only J4: the study has no such row; there are mine, other, recipe, w/o J3"):
        plan_study(study, tmp_path, only=("J4",))


@pytest.mark.slow
def test_two_hundred_runs_are_planned_in_seconds(shards: Path, tmp_path: Path) -> None:
    sweep = Sweep("method.common", tuple(0.01 * number for number in range(1, 40)))
    study = replace(STUDY, recipes=(recipe(shards),), variants=(), sweeps=(sweep,), seeds=tuple(range(5)))
    for row in study.rows[:20]:
        for seed in range(5):
            start(tmp_path / "runs/mine" / row.run_name(seed), row.experiment, seed, shards)
    began = time.perf_counter()
    plan = plan_study(replace(study), tmp_path / "runs")
    assert len(plan.runs) == 200 and plan.count("begun") == 100
    assert time.perf_counter() - began < 60  # two seconds on a quiet machine


# ---- what was measured

VALUES = {
    "recipe": (0.50, 0.53, 0.49),
    "w/o J3": (0.41, 0.45, 0.42),
    "GRU": (0.50, 0.54, 0.50),
    "λ = 0.0001": (0.30, 0.31, 0.29),
    "λ = 0.01": (0.45, 0.45, 0.45),
}


@pytest.fixture
def measured(tmp_path: Path) -> Study:
    """The study with three seeds of each row, but for one."""
    first = Made().write(tmp_path / "made/first")
    base = Run(first).experiment()
    base = replace(base, name="dscmr_wikipedia", train=Train(select="mAP@all", protocol="clean"))
    study = replace(STUDY, recipes=(base,), seeds=(0, 1, 2), reference="recipe")
    for row in study.rows:
        for seed, value in enumerate(VALUES.get(row.variant.name, ())):
            if (row.variant.name, seed) == ("GRU", 2):
                continue
            run = tmp_path / "runs/dscmr_wikipedia" / row.run_name(seed)
            cost = {"seconds": 60.0 + 30.0 * seed, "peak_memory": 10**9 * (1 + seed)}
            Made(seed=seed, scores={"mAP@all": value}, config=row.experiment.method, training=cost).write(run)
            experiment = replace(row.experiment, train=replace(row.experiment.train, seed=seed))
            Run(run).start(experiment, {"manifest_sha256": sha256_of(base.data.shards / "manifest.json")})
            records = [{"step": step, "val": {"average mAP@all": value / 3 * step}} for step in (1, 2, 3)]
            write(run / "metrics.jsonl", "".join(f"{each}\n".replace("'", '"') for each in records))
    return study


def test_rows_have_mean_and_deviation_and_a_paired_test_beside_the_recipe(measured: Study, tmp_path: Path) -> None:
    (result,) = read_results(plan_study(measured, tmp_path / "runs")).recipes
    rows = {row.name: row for row in result.rows}
    found = rows["w/o J3"].statistic("average", "mAP@all")
    assert found is not None and found.seeds == 3
    assert found.mean == pytest.approx(np.mean(VALUES["w/o J3"]))
    assert found.deviation == pytest.approx(np.std(VALUES["w/o J3"], ddof=1))
    compared = result.compare(rows["w/o J3"])
    assert compared is not None and compared.seeds == 3
    assert compared.difference == pytest.approx(np.mean(VALUES["w/o J3"]) - np.mean(VALUES["recipe"]))
    assert compared.p == pytest.approx(stats.ttest_rel(VALUES["w/o J3"], VALUES["recipe"]).pvalue)
    of_two = result.compare(rows["GRU"])
    assert of_two is not None and of_two.seeds == 2
    assert of_two.difference == pytest.approx(0.005)
    assert result.compare(result.reference) is None
    assert rows["λ = 0.001"].values("average", "mAP@all") == dict(enumerate(VALUES["recipe"]))
    assert rows["GRU"].missing == (2,)
    assert rows["recipe"].minutes == pytest.approx(1.5) and rows["recipe"].peak_memory == 3 * 10**9


def test_differences_that_are_all_equal_have_no_p(measured: Study, tmp_path: Path) -> None:
    (result,) = read_results(plan_study(measured, tmp_path / "runs", only=("recipe", "λ = 0.001"))).recipes
    compared = result.compare({row.name: row for row in result.rows}["λ = 0.001"])
    assert compared is not None and (compared.difference, compared.p) == (0.0, None)


def test_the_best_is_bold_and_the_second_underlined(measured: Study, tmp_path: Path) -> None:
    result = read_results(plan_study(measured, tmp_path / "runs"))
    lines = {line.split("|")[1].strip(): line for line in render_study(result, "markdown").splitlines() if "|" in line}
    best, second = "**0.5200 ± 0.0283**", "<u>0.5067 ± 0.0208</u>"
    gru = next(line for name, line in lines.items() if name.startswith("GRU"))
    assert gru.count(best) == 3  # both directions and the average
    assert all(line.count(second) == 3 for name, line in lines.items() if name.startswith(("recipe", "λ = 0.001")))
    assert sum(line.count("**") for line in lines.values()) == 6
    text = render_study(result, "markdown")
    assert "GRU: seed 2 not measured yet." in text and "paired t-test" in text
    tex = render_study(result, "latex")
    assert r"\textbf{0.5200 $\pm$ 0.0283}" in tex and r"\underline{0.5067 $\pm$ 0.0208}" in tex
    assert r"\toprule" in tex and tex.count(r"\begin{table}") == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs LaTeX")
def test_latex_takes_the_table(measured: Study, tmp_path: Path) -> None:
    tex = render_study(read_results(plan_study(measured, tmp_path / "runs")), "latex")
    assert r"$\lambda$ = 0.001" in tex and r"$\Delta$" in tex
    write(
        tmp_path / "t.tex", rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{tex}\end{{document}}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_csv_has_all_digits_and_options(measured: Study, tmp_path: Path) -> None:
    result = read_results(plan_study(measured, tmp_path / "runs"))
    lines = [*csv.DictReader(io.StringIO(render_study(result, "csv")))]
    (line,) = [each for each in lines if (each["row"], each["direction"]) == ("w/o J3", "average")]
    assert float(line["value"]) == np.mean(VALUES["w/o J3"]) and line["options"] == "method.invariance = 0.0"
    assert float(line["p"]) == pytest.approx(stats.ttest_rel(VALUES["w/o J3"], VALUES["recipe"]).pvalue)
    assert len(lines) == 6 * 3 and {each["seeds"] for each in lines} == {"2", "3"}


def test_the_page_has_tables_figures_and_what_is_missing(measured: Study, tmp_path: Path) -> None:
    write_study_page(tmp_path / "study.html", read_results(plan_study(measured, tmp_path / "runs")))
    page = (tmp_path / "study.html").read_text()
    assert page.count("data:image/svg+xml") == 3  # rows, the sweep, validation
    assert "<b>0.5200 ± 0.0283</b>" in page and "14 of 15 runs measured" in page
    assert "dscmr_wikipedia, GRU, seed 2" in page and "method.invariance = 0.0" in page
    assert "<script" not in page


def test_a_metric_that_no_run_has_is_refused_with_those_that_there_are(measured: Study, tmp_path: Path) -> None:
    plan = plan_study(replace(measured, metric="R@1"), tmp_path / "runs")
    with pytest.raises(XmrError, match=r"no run of dscmr_wikipedia has its metric R@1; there are mAP@all"):
        read_results(plan)


def test_another_protocols_figures_are_not_taken_for_the_studys(measured: Study, tmp_path: Path) -> None:
    run = plan_study(measured, tmp_path / "runs").runs[0]
    document = (
        (run.folder / "evaluation/run.json").read_text() if (run.folder / "evaluation/run.json").exists() else None
    )
    path = next((run.folder / "evaluation").glob("*.json"))
    text = document or path.read_text()
    other = text.replace('"name": "clean"', '"name": "released:dscmr"').replace(str(VALUES["recipe"][0]), "0.99")
    assert CLEAN["name"] == "clean" and other != text
    write(run.folder / "evaluation/test-released-dscmr.json", other)
    (result,) = read_results(plan_study(measured, tmp_path / "runs")).recipes
    assert result.reference.values("average", "mAP@all")[0] == VALUES["recipe"][0]


def test_each_evaluation_is_read_once(measured: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path) -> EvaluationResult:
        read.append(path)
        return read_result(path)

    monkeypatch.setattr("xmr_e2e.studies.runs.read_result", counted)
    render_study(read_results(plan_study(measured, tmp_path / "runs")), "markdown")
    assert len(set(read)) == len(read) > 10


# ---- the studies of the package


@pytest.mark.parametrize("name", find_studies())
def test_a_study_of_the_package_has_possible_rows(name: str) -> None:
    study = load_study(find_studies()[name])
    assert study.name == name and len(study.rows) > 1


def test_studies_are_listed_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in find_studies())
    name = next(iter(find_studies()))
    assert main(["study", "copy", name]) == 0
    assert (tmp_path / f"{name}.py").read_bytes() == find_studies()[name].read_bytes()
    assert main(["study", "copy", name]) == 2
    assert "exists, and is left as it is" in capsys.readouterr().err
    assert main(["study", "run", "nothing.py"]) == 2
    assert "nothing.py is neither a file nor one of the studies" in capsys.readouterr().err
    write(tmp_path / "empty.py", "")
    assert main(["study", "run", "empty.py"]) == 2
    assert "empty.py is no study: it has no function `study`" in capsys.readouterr().err


# ---- Slurm

FILE = f"""{PROGRAM}
from tests.helpers.study_runs import recipe
from xmr_e2e.studies import Study, Sweep

def study():
    values = tuple(0.01 * number for number in range(1, 40))
    recipes = (recipe(pathlib.Path("shards/mine")),)
    return Study("many", recipes, sweeps=(Sweep("method.common", values),), seeds=tuple(range(5)))
"""


def said(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> list[str]:
    assert main(words) == 0
    return capsys.readouterr().out.splitlines()


def test_two_hundred_runs_are_an_array_that_is_submitted_once(
    slurm: Slurm, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    write(tmp_path / "many.py", FILE)
    submit = ["study", "run", "many.py", "--submit", "--jobs", "2"]
    (line,) = said(capsys, submit)
    assert line.startswith("200 runs are job ") and line.endswith(", tasks 0-199: runs/studies/many/runs-1.txt")
    assert said(capsys, submit) == ["200 runs are in the queue"]
    job = line.split()[4].rstrip(",")
    write(tmp_path / "end", "")
    assert slurm.wait(f"{job}_1") == 0, slurm.log(tmp_path, f"{job}_1")
    slurm.command("scancel", job)
    first, second = (tmp_path / "runs/studies/many/runs-1.txt").read_text().splitlines()[:2]
    row, seed, name, where = second.split()
    assert (row, seed, where) == ("mine/recipe", "1", "shards/mine") and first.split()[1] == "0"
    words = (
        f"--run {row} --train.seed 1 --train.name {name} --train.runs runs --data.shards shards/mine --train.no-report"
    )
    assert words in slurm.log(tmp_path, f"{job}_1")


def test_without_slurm_submitting_is_refused(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    write(tmp_path / "many.py", FILE)
    assert main(["study", "run", "many.py", "--submit"]) == 2
    assert "--submit: there is no sbatch on this machine" in capsys.readouterr().err


def test_a_dry_run_shows_commands_that_name_a_row(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "many.py", FILE)
    words = [
        "study",
        "run",
        "many.py",
        "--dry-run",
        "--only",
        "recipe",
        "--seeds",
        "3",
        "--launcher",
        "accelerate launch",
    ]
    (line,) = said(capsys, words)
    start = "accelerate launch many.py --run mine/recipe --train.seed 3 --train.name recipe-"
    assert line.startswith(start) and line.endswith(" --train.runs runs --data.shards shards/mine --train.no-report")
    assert sys.executable in said(capsys, words[:-2])[0]
