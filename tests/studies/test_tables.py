"""Runs are compared over seeds beside published and random figures, and what cannot be compared says why."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.made_runs import CLEAN, IMAGE, TEXT, WAYS, Made
from xmr_e2e.cli import main
from xmr_e2e.data.config import Data
from xmr_e2e.data.vectors import WordVectors
from xmr_e2e.files import sha256_of
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.studies.compare import Comparison, ComparisonRow, compare
from xmr_e2e.studies.groups import group_runs
from xmr_e2e.studies.render import render
from xmr_e2e.studies.runs import find_runs, read_run
from xmr_e2e.towers.image import ImageTower
from xmr_e2e.towers.text import TextCnn
from xmr_e2e.training.launch import run_experiment
from xmr_e2e.training.processes import make_accelerator


def tabulate(folder: Path, *metrics: str) -> list[Comparison]:
    return compare(group_runs(each for run in find_runs([folder]) for each in read_run(run)), metrics)


def row_of(comparison: Comparison, kind: str, source: str = "") -> ComparisonRow:
    (row,) = [row for row in comparison.rows if row.kind == kind and source in row.source]
    return row


# ---- over seeds


def test_mean_and_standard_deviation_over_seeds_are_numpys(tmp_path: Path) -> None:
    values = [0.50, 0.53, 0.47, 0.49]
    for seed, value in enumerate(values):
        made = Made(seed=seed, scores={"mAP@all": value}, workers=seed, train=Train(runs=tmp_path / str(seed)))
        made.write(tmp_path / f"at {seed}" / f"run-{seed}")
    (comparison,) = tabulate(tmp_path)
    row = row_of(comparison, "ours")
    assert row.source == "dscmr_wikipedia" and row.seeds == 4
    for direction in (*WAYS, "average"):
        mean, deviation, seeds = row.cells[direction].value
        assert mean == pytest.approx(np.mean(values)) and deviation == pytest.approx(np.std(values, ddof=1))
        assert seeds == 4
    assert row_of(comparison, "random").cells["average"].value[0] == pytest.approx(np.mean(values) / 4)
    assert "0.4975 ± 0.0250" in render([comparison], "markdown")


def test_one_seed_has_no_deviation_and_a_seed_that_was_run_twice_counts_once(tmp_path: Path) -> None:
    Made(seed=0, scores={"mAP@all": 0.4}).write(tmp_path / "a")
    (comparison,) = tabulate(tmp_path)
    assert row_of(comparison, "ours").cells["average"].value == (0.4, None, 1)
    Made(seed=0, scores={"mAP@all": 0.6}, commit="ba9876543210").write(tmp_path / "b")
    Made(seed=1, scores={"mAP@all": 0.8}).write(tmp_path / "c")
    (comparison,) = tabulate(tmp_path)
    row = row_of(comparison, "ours")
    assert row.cells["average"].value == (pytest.approx(0.65), pytest.approx(np.std([0.5, 0.8], ddof=1)), 2)
    assert row.seeds == 2
    assert "seed 0 was run 2 times and counts once, with the mean" in row.marks
    assert "its runs are of 2 versions of the code: 0123456789ab, ba9876543210" in row.marks


def test_runs_with_other_options_or_other_shards_are_rows_of_their_own_and_named_by_them(tmp_path: Path) -> None:
    Made().write(tmp_path / "a")
    Made(config=Dscmr(image=IMAGE, text=TEXT, invariance=0.5)).write(tmp_path / "b")
    Made(config=Dscmr(image=IMAGE, text=TEXT, invariance=0.5), classes=11).write(tmp_path / "c")
    Made(config=Dscmr(image=IMAGE, text=TEXT, invariance=0.5), dataset="mine").write(tmp_path / "d")
    of_mine, of_wikipedia = tabulate(tmp_path)
    sources = sorted(row.source for row in of_wikipedia.rows if row.kind == "ours")
    assert sources[0] == "dscmr_wikipedia (method.invariance=0.1)"
    shards = sorted(sha256_of(tmp_path / f"shards-{name}" / "manifest.json")[:12] for name in "bc")
    assert sources[1:] == [f"dscmr_wikipedia (method.invariance=0.5), trained on shards {name}" for name in shards]
    assert row_of(of_mine, "ours").source == "dscmr_wikipedia (method.invariance=0.5)"


def test_options_that_came_after_a_run_have_their_defaults_and_those_that_went_tell_runs_apart(tmp_path: Path) -> None:
    Made(seed=0).write(tmp_path / "new")
    before = Made(seed=1).write(tmp_path / "before") / "config.json"
    config = json.loads(before.read_bytes())
    del config["train"]["batch_classes"], config["method"]["similar"]
    before.write_text(json.dumps(config))
    (comparison,) = tabulate(tmp_path)
    assert row_of(comparison, "ours").seeds == 2
    before.write_text(json.dumps({**config, "method": {**config["method"], "gone": 7}}))
    (comparison,) = tabulate(tmp_path)
    sources = [row.source for row in comparison.rows if row.kind == "ours"]
    assert sources[0].startswith("dscmr_wikipedia (method.gone=7") and sources[1].startswith(
        "dscmr_wikipedia (method.sim"
    )


SIX_WAYS = tuple(f"{one}_to_{other}" for one in ("image", "text", "audio") for other in ("image", "text", "audio")
                  if one != other)  # fmt: skip
POOLS = ("image_to_others", "text_to_others", "audio_to_others")


def test_mixed_pools_stand_behind_the_average_of_which_they_are_no_part(tmp_path: Path) -> None:
    for seed, value in enumerate((0.4, 0.6)):
        made = Made(seed=seed, scores={"mAP@all": value}, directions=SIX_WAYS, pools=POOLS)
        made.write(tmp_path / f"run-{seed}")
    Made(seed=0, method="sdcmr", scores={"mAP@all": 0.3}, directions=SIX_WAYS).write(tmp_path / "early")
    (comparison,) = tabulate(tmp_path)
    assert comparison.directions == (*SIX_WAYS, "average", *POOLS)
    ours, early, random = (
        row_of(comparison, kind, source) for kind, source in (("ours", "dscmr"), ("ours", "sdcmr"), ("random", ""))
    )
    assert ours.cells["average"].value[0] == pytest.approx(0.5)
    for pool in POOLS:
        assert ours.cells[pool].value[:2] == (pytest.approx(0.25), pytest.approx(np.std([0.2, 0.3], ddof=1)))
        assert random.cells[pool].value[0] == pytest.approx(0.25 / 4)
    assert early.cells.keys() == {*SIX_WAYS, "average"}  # of a version that measured in none
    text = render([comparison], "markdown")
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert lines.index("average") < lines.index("image → all others") < lines.index("audio → all others")
    rows = list(csv.DictReader(io.StringIO(render([comparison], "csv"))))
    assert {row["direction"] for row in rows if row["kind"] == "ours"} == {*SIX_WAYS, "average", *POOLS}


# ---- what cannot be compared

VGG_FROM_NOTHING = Dscmr(image=ImageTower("vgg19", weights="none"), text=TEXT)
RELEASED = {
    "name": "released:dscmr",
    "gallery": "test",
    "selected_on": "test",
    "differences": ["The epoch is the one with the best mAP@all on the test split itself."],
}
WITH_TRAIN = {**CLEAN, "gallery": "test+train", "differences": ["The gallery holds the training split's, too."]}
OURS = [
    (Made(config=VGG_FROM_NOTHING), "no pretrained weights (method.image.weights none)"),
    (Made(dataset="synthetic (Wikipedia layout)"), "synthetic data"),
    (Made(dataset="wikipedia (labels from mine.csv)"), "labels from mine.csv, not the publisher's"),
    (Made(protocol=RELEASED, name="test"), "protocol released:dscmr: The epoch is the one with the best mAP@all on"),
    (Made(protocol=WITH_TRAIN, name="test-clean-with-train"), "The gallery holds the training split's, too."),
    (Made(protocol={**CLEAN, "selected_on": "nothing"}), "epoch: the last, not chosen"),
    (Made(name="other-test"), "trained on other shards than these"),
]
PUBLISHED = [
    (Made(sizes=(2173, 0, 693)), "published with train 2,173, test 462; here 2,173/0/693 (train/val/test)"),
    (Made(classes=9), "published with 10 classes; here 9"),
    (Made(split="val", name="val"), "published on the test split; here the val split"),
    (Made(protocol=WITH_TRAIN, name="test-clean-with-train"), "here the training split is in it, too"),
    (Made(), "epoch as published: the best on the test split itself; here: the best on the validation split"),
]


@pytest.mark.parametrize(("made", "reason"), OURS)
def test_runs_that_cannot_be_compared_say_why(made: Made, reason: str, tmp_path: Path) -> None:
    made.write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    assert any(reason in mark for mark in row_of(comparison, "ours").marks)


@pytest.mark.parametrize(("made", "reason"), PUBLISHED)
def test_published_figures_that_cannot_be_compared_say_why(made: Made, reason: str, tmp_path: Path) -> None:
    made.write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    row = row_of(comparison, "published", "DSCMR, Table 2")
    assert any(reason in mark for mark in row.marks)
    assert row.cells["image_to_text"].value == "0.521"


def test_nothing_is_marked_where_nothing_differs(tmp_path: Path) -> None:
    Made(method="drcl", dataset="xmedia", sizes=(4000, 500, 500), classes=20).write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    assert [row.marks for row in comparison.rows] == [(), (), ()]


def test_a_run_by_a_released_protocol_is_not_marked_for_the_selection_that_it_shares(tmp_path: Path) -> None:
    Made(protocol=RELEASED).write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    assert not any("epoch as published" in mark for mark in row_of(comparison, "published", "DSCMR, Table 2").marks)


def test_papers_that_ran_a_method_again_stand_below_its_own_and_other_subsets_are_named(tmp_path: Path) -> None:
    Made(dataset="nuswide_10k", sizes=(8000, 1000, 1000)).write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    published = {row.source: row for row in comparison.rows if row.kind == "published"}
    assert list(published) == ["DSCMR, Table 4", "SDCMR, Table II", "DRCL, Table III"]
    assert "published on NUS-WIDE-10k (nuswide_10_class); here nuswide_10k" in published["SDCMR, Table II"].marks
    assert "run again by DRCL's authors on their own features" in published["DRCL, Table III"].marks
    assert [cell.value for cell in published["DRCL, Table III"].cells.values()] == ["0.578", "0.587", "0.583"]


def test_the_outlier_of_sdcmr_is_marked_where_it_stands(tmp_path: Path) -> None:
    Made(method="sdcmr", sizes=(2173, 0, 693)).write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    cells = row_of(comparison, "published").cells
    assert cells["image_to_text"].value == "0.683" and "outlier" in cells["image_to_text"].marks[0]
    assert cells["text_to_image"].marks == ()
    assert re.search(r"0\.683 \[\d\] \|  +0\.475 \|", render([comparison], "markdown"))


def test_another_metric_is_named_but_its_figures_stand_in_no_column(tmp_path: Path) -> None:
    Made(method="alscor", sizes=(2173, 0, 693), scores={"mAP@all": 0.4, "mAP@50": 0.6}).write(tmp_path / "run")
    over_all, first_50 = tabulate(tmp_path)
    assert [row.kind for row in over_all.rows] == ["ours", "random"]
    assert over_all.remarks == (
        "ALSCOR is published with another metric, not to be compared with mAP@all: mAP@50 (ALSCOR, Table 2).",
    )
    assert row_of(first_50, "published").cells["text_to_image"].value == "0.6358"


def test_an_average_over_other_directions_is_left_out(tmp_path: Path) -> None:
    Made(method="drcl", dataset="xmedianet", sizes=(32000, 4000, 4000), classes=200).write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    assert {way: cell.value for way, cell in row_of(comparison, "published").cells.items()} == dict(
        zip(WAYS, ("0.640", "0.642"))
    )


def test_a_dataset_that_no_paper_has_is_said_to_be_so(tmp_path: Path) -> None:
    Made(dataset="flickr8k").write(tmp_path / "run")
    (comparison,) = tabulate(tmp_path)
    assert comparison.remarks == ("None of the five papers has figures of DSCMR on this dataset.",)


def test_without_the_trainings_shards_only_the_test_split_is_compared(tmp_path: Path) -> None:
    Made(sizes=(2000, 231, 462)).write(tmp_path / "run")
    shutil.rmtree(tmp_path / "shards-run")
    (comparison,) = tabulate(tmp_path)
    assert comparison.setting.sizes == (None, None, 462)
    assert not any("published with" in mark for mark in row_of(comparison, "published", "DSCMR, Table 2").marks)
    assert "?/?/462" in render([comparison], "markdown")


# ---- as text


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Three seeds of a run with a name that no format likes."""
    for seed in range(3):
        made = Made(
            dataset="50% a&b #1 {x}_y^z~|\\<→>",
            seed=seed,
            scores={"mAP@all": 0.4 + seed / 7, "mAP@50": 0.5},
            training={"seconds": 60.0 * (1 + seed), "peak_memory": 10**9 * (1 + seed)} if seed else None,
        )
        made.write(tmp_path / "runs" / f"run-{seed}")
    Made(sizes=(2173, 0, 693)).write(tmp_path / "runs" / "other")
    return tmp_path / "runs"


def test_the_csv_has_every_figure_with_all_its_digits(seeds: Path) -> None:
    comparisons = tabulate(seeds)
    lines = list(csv.DictReader(io.StringIO(render(comparisons, "csv"))))
    assert len(lines) == sum(len(row.cells) for comparison in comparisons for row in comparison.rows)
    (line,) = [each for each in lines if each["dataset"].startswith("50%") and each["kind"] == "ours"
               and (each["metric"], each["direction"]) == ("mAP@all", "average")]  # fmt: skip
    values = [0.4 + seed / 7 for seed in range(3)]
    assert float(line["value"]) == pytest.approx(np.mean(values), abs=1e-15)
    assert float(line["deviation"]) == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert (line["seeds"], line["train"], line["protocol"], line["split"]) == ("3", "2173", "clean", "test")
    assert (line["minutes"], line["peak_memory"]) == ("2.5", "3000000000")  # of the two that say so
    published = [each for each in lines if each["kind"] == "published" and each["source"] == "DSCMR, Table 2"]
    assert [each["value"] for each in published] == ["0.521", "0.478", "0.499"]
    assert all("published with train 2,173, test 462" in each["notes"] for each in published)


def test_the_columns_of_markdown_stand_below_each_other_and_each_footnote_is_there(seeds: Path) -> None:
    for part in render(tabulate(seeds), "markdown").split("\n## "):
        table = [line for line in part.splitlines() if line.startswith("|")]
        assert len({len(line) for line in table}) == 1
        assert len({tuple(place.start() for place in re.finditer(r"(?<!\\)\|", line)) for line in table}) == 1
        used = {int(number) for marks in re.findall(r" \[([\d, ]+)\]", "\n".join(table)) for number in marks.split(",")}
        assert used == {int(number) for number in re.findall(r"^- \[(\d+)\] \w", part, re.MULTILINE)}
        assert used or not part.startswith("wikipedia")


def test_time_and_memory_stand_in_tables_of_runs_that_say_what_they_took(seeds: Path) -> None:
    tables = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
        for part in render(tabulate(seeds), "markdown").split("\n## ")
    ]
    assert [rows[0][-3:] for rows in tables if "minutes" in rows[0]] == 2 * [["seeds", "minutes", "GB"]]
    assert [row[-3:] for rows in tables for row in rows if "0.5429 ± 0.1429" in row] == [["3", "2.5", "3.0"]]
    assert len(tables) == 3


def test_latex_compiles(seeds: Path, tmp_path: Path) -> None:
    text = render(tabulate(seeds), "latex")
    assert r"50\% a\&b \#1 \{x\}\_y\textasciicircum{}z\textasciitilde{}\textbar{}\textbackslash{}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    assert r"0.5429 $\pm$ 0.1429" in text
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex on this machine (Debian: apt-get install texlive-latex-recommended)")
    (tmp_path / "tables.tex").write_text(text)
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables}\end{document}"
    (tmp_path / "document.tex").write_text(document)
    command = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Missing character" not in (tmp_path / "document.log").read_text()


def test_many_directions_are_lines(tmp_path: Path) -> None:
    modalities = ("image", "text", "audio", "shape3d", "video")
    ways = tuple(f"{one}_to_{other}" for one in modalities for other in modalities if one != other)
    made = Made(method="drcl", dataset="xmedia", sizes=(4000, 500, 500), classes=20, directions=ways)
    made.write(tmp_path / "run")
    lines = render(tabulate(tmp_path), "markdown").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert ["3D shape → text", "0.5000", "0.712", "0.1250"] in cells
    assert ["average", "0.5000", "0.630", "0.1250"] in cells
    assert len(cells) == 2 + 1 + 20 + 1 + 1  # method and its rule, source, directions, average, seeds


# ---- the command


def test_the_command_finds_runs_at_any_depth_once_and_names_those_without_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Made().write(tmp_path / "far" / "below" / "run")
    for name in ("begun", "failed", "failed too"):
        shutil.copytree(run, tmp_path / name, ignore=shutil.ignore_patterns("evaluation"))
    (tmp_path / "begun" / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "failed" / "metrics.jsonl").touch()
    assert main(["table", str(tmp_path), str(run)]) == 0
    text, errors = capsys.readouterr()
    assert text.count("| dscmr_wikipedia ") == 1 and "seed 0 was run" not in text
    assert f"{tmp_path / 'begun'} has no evaluation, and so is not in the table" in errors.replace("\n", "")
    assert f"2 run folders never took a step, and are left out (the first: {tmp_path / 'failed'})" in errors
    assert errors.count("failed") == 1
    assert "Measured on test, protocol clean. Samples (train/val/test): 2,173/231/462." in text


@pytest.mark.parametrize(("suffix", "begins"), [("md", "## wikipedia"), ("csv", "dataset,"), ("tex", "% \\use")])
def test_the_command_writes_the_format_that_the_file_is_called_by(suffix: str, begins: str, tmp_path: Path) -> None:
    Made().write(tmp_path / "run")
    out = tmp_path / "new" / f"table.{suffix}"
    assert main(["table", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert out.read_text().startswith(begins)
    assert main(["table", str(tmp_path / "run"), "--out", str(out), "--format", "csv"]) == 0
    assert out.read_text().startswith("dataset,")


def test_runs_from_before_there_were_protocols_count_as_clean(tmp_path: Path) -> None:
    run = Made(protocol=None).write(tmp_path / "run")
    path = run / "evaluation" / "test.json"
    document = json.loads(path.read_bytes())
    for kind in ("model", "random"):  # the first versions had the directions beside the average
        document[kind] = {**document[kind].pop("figures"), **document[kind]}
    path.write_text(json.dumps(document))
    (comparison,) = tabulate(tmp_path)
    assert comparison.setting.protocol == "clean" and comparison.directions == (*WAYS, "average")
    assert row_of(comparison, "ours").marks == ()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda run: (run / "evaluation" / "test.json").write_text("{"), "test.json is no JSON"),
        (lambda run: (run / "evaluation" / "test.json").write_text('{"split": "test"}'), "not what `xmr eval` writes"),
        (lambda run: (run / "config.json").unlink(), "is no run folder and holds none"),
        (lambda run: shutil.rmtree(run), "no such folder"),
    ],
)
def test_what_cannot_be_read_is_named(
    spoil: Callable[[Path], object], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Made().write(tmp_path / "run")
    spoil(run)
    assert main(["table", str(run)]) == 2
    error = capsys.readouterr().err
    assert complaint in error and str(run) in error


def test_a_metric_that_was_not_measured_is_refused_with_those_that_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Made(scores={"mAP@all": 0.5, "R@1": 0.1}).write(tmp_path / "run")
    assert main(["table", str(tmp_path / "run"), "--metrics", "R@2"]) == 2
    assert "--metrics R@2: no run has it; there are R@1, mAP@all" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "run"), "--metrics", "R@1"]) == 0
    assert "## wikipedia, R@1" in capsys.readouterr().out


@pytest.mark.slow
def test_what_trainings_write_is_what_is_read(tiny_samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    classes = sorted({label for sample in tiny_samples for label in sample.labels})
    options = BuildOptions(shard_samples=20, workers=1)
    build_shards(shards, dataset="wikipedia", classes=classes, samples=tiny_samples, options=options)
    method = Dscmr(image=ImageTower("resnet10_slim", weights="none"), text=TextCnn(kernels=8), hidden=16, dim=8)
    data = Data(shards, image_size=32, load_size=32, words=WordVectors(dim=6), workers=0)
    train = Train(epochs=1, batch_size=20, runs=tmp_path / "runs", seed=3, name="run", report=False)
    experiment = Experiment("dscmr_wikipedia", data, method, Optimizer(lr=3e-3), train=train)
    assert run_experiment(experiment, make_accelerator(train)) == 0
    run = tmp_path / "runs" / "dscmr_wikipedia" / "run"
    measured = json.loads((run / "evaluation" / "test.json").read_bytes())
    comparison = tabulate(tmp_path / "runs")[0]
    row, random = row_of(comparison, "ours"), row_of(comparison, "random")
    for direction in WAYS:
        figures = (measured[kind]["figures"][direction]["scores"]["mAP@all"] for kind in ("model", "random"))
        assert (row.cells[direction].value, random.cells[direction].value) == tuple((each, None, 1) for each in figures)
    assert comparison.setting.sizes == (40, 12, 12) and comparison.setting.protocol == "clean"
    assert row.marks == ("no pretrained weights (method.image.weights none)",)
    published = row_of(comparison, "published", "DSCMR, Table 2")
    assert "published with train 2,173, test 462; here 40/12/12 (train/val/test)" in published.marks
    assert "published with 10 classes; here 4" in published.marks
