"""Several runs on one page: their figures, what differs, and a warning where they cannot be compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import xmr_e2e.runs.evaluate
from tests.helpers.embedded import embedded_split
from tests.helpers.made_runs import CLEAN
from tests.helpers.report_pages import Page
from xmr_e2e.cli import main
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.figures import CrossModalMetrics
from xmr_e2e.evaluation.protocol import ProtocolRecord
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.runs.command import report_command

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.helpers.browser"]


@cache
def measured(noise: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    rows = {name: np.eye(6)[labels] + noise * rng.standard_normal((60, 6)) for name in ("image", "text")}
    metrics = cross_modal_metrics(embedded_split(rows, labels))
    return document(metrics)


def document(metrics: CrossModalMetrics) -> dict[str, Any]:
    protocol = ProtocolRecord("clean", "test", "val", ())
    result = EvaluationResult("wikipedia", "test", "epoch 3", metrics, protocol, classes=("a",) * 6)
    return json.loads(json.dumps(result.to_dict()))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, noise: float, *, lr: float = 0.1, seed: int = 0, **changes: Any) -> Path:
        folder = tmp_path / name
        (folder / "evaluation").mkdir(parents=True)
        (folder / "evaluation" / "test.json").write_text(json.dumps(measured(noise) | changes))
        (folder / "config.json").write_text(json.dumps({"name": f"{name} <b>", "optimizer": {"lr": lr}, "dim": 40}))
        (folder / "environment.json").write_text(json.dumps({"seed": seed, "python": "3.11"}))
        line = {"step": 5, "val": {"average mAP@all": noise}}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        return folder

    return make


def compared(out: Path, *runs: Path) -> Page:
    report_command(runs, out=out / "page.html")
    return Page((out / "page.html").read_text())


def test_figures_stand_side_by_side_with_the_random_ones_and_the_best_is_marked(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    page = compared(tmp_path, make_run("one", 0.5), make_run("two", 1.5))
    assert page.open == [] and "warning" not in page.of_class
    documents = [measured(0.5), measured(1.5)]
    starts = [number for number, row in enumerate(page.rows) if row[0] == "run"]
    assert len(starts) == 3
    for start, way in zip(starts, ("average", "image_to_text", "text_to_image")):
        names = page.rows[start][1:]
        assert names[:2] == ["mAP@all", "mAP@50"] and "MedR" in names
        for row, letter, document in zip(page.rows[start + 1 : start + 3], "AB", documents):
            assert row[0].startswith(letter)
            model, random = (
                document[side]["average"] if way == "average" else document[side]["figures"][way]["scores"]
                for side in ("model", "random")
            )
            assert row[1] == f"{'▲' if letter == 'A' else ''}{model['mAP@all']:.3f}{random['mAP@all']:.3f}"
        medians = [row[1 + names.index("MedR")] for row in page.rows[start + 1 : start + 3]]
        assert medians[0].startswith("▲") and not medians[1].startswith("▲")  # the lower rank


def test_runs_of_one_recipe_are_told_apart_by_their_folders(make_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [make_run(name, 0.5) for name in ("seed 1/one", "seed 2/one", "other")]
    for run in runs:
        (run / "config.json").write_text(json.dumps({"name": "dscmr"}))
    page = compared(tmp_path, *runs)
    assert page.of_class["run"][:3] == ["dscmr, seed 1/one", "dscmr, seed 2/one", "dscmr, other"]
    assert "A dscmr, seed 1/one; B dscmr, seed 2/one; C dscmr, other" in " ".join(page.text.split())
    again = compared(tmp_path, runs[2], runs[2])
    assert again.of_class["run"][:2] == ["dscmr, other", "dscmr, other"]  # the same one twice


def test_a_run_that_has_collapsed_is_not_the_best_by_the_correlation_of_its_pairs(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 6
    collapsed = np.arange(6) + 1e-3 * rng.standard_normal((60, 6))
    metrics = cross_modal_metrics(embedded_split({"image": collapsed, "text": collapsed[::-1].copy()}, labels))
    for way in metrics.model.directions:
        ours, random = (each.directions[way].scores["Pearson"] for each in (metrics.model, metrics.random))
        assert ours > 0.999 and random == pytest.approx(ours, abs=1e-3)
    own = measured(0.5)["model"]["figures"]["image_to_text"]["scores"]["Pearson"]
    assert own - measured(0.5)["random"]["figures"]["image_to_text"]["scores"]["Pearson"] > 0.3
    page = compared(tmp_path, make_run("good", 0.5), make_run("collapsed", 0.5, **document(metrics)))
    start = next(number for number, row in enumerate(page.rows) if row[0] == "run")
    column = page.rows[start].index("Pearson")
    assert not any("▲" in row[column] for row in page.rows[start + 1 : start + 3])
    assert page.rows[start + 1][1].startswith("▲")
    assert "but for Pearson, which is highest in a space that has collapsed" in page.text


def test_only_what_differs_in_configuration_and_environment_is_listed(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    page = compared(tmp_path, make_run("one", 0.5), make_run("two", 0.5, lr=0.2, seed=3))
    rows = {row[0]: row[1:] for row in page.rows if len(row) == 3}
    assert rows["optimizer.lr"] == ["0.1", "0.2"] and rows["seed"] == ["0", "3"]
    assert rows["name"] == ["one <b>", "two <b>"]
    assert "dim" not in rows and "python" not in rows


TRAIN = {**CLEAN, "gallery": "test+train"}
ON_TEST = {"name": "released:x", "gallery": "test", "selected_on": "test", "differences": ["Selected on test."]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "flickr8k"}, "Different datasets: A: wikipedia; B: flickr8k."),
        ({"split": "val"}, "Different splits: A: test; B: val."),
        ({"protocol": TRAIN}, "Different galleries: A: test; B: test+train."),
        ({"protocol": ON_TEST}, "Different selections of the epoch: A: on val; B: on test."),
        ({"definitions": {"ties": "at random"}}, "ties is defined differently"),
    ],
)
def test_what_cannot_be_compared_is_said_and_nothing_is_called_the_best(
    make_run: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    page = compared(tmp_path, make_run("one", 0.5), make_run("two", 1.5, **changes))
    (warning,) = page.of_class["warning"]
    assert "not comparable" in warning and words in warning
    assert "▲" not in page.text.split("Curves")[0]
    assert ("⚠ not selected on validation" in page.text) == (changes.get("protocol") is ON_TEST)


def test_the_page_needs_no_other_file_and_fits_a_phone(
    make_run: Callable[..., Path], tmp_path: Path, browser: Browser
) -> None:
    runs = [make_run(f"a run with a rather long name {number}", 0.5 + number / 5, lr=number) for number in range(4)]
    report_command(tuple(runs), out=tmp_path / "page.html")
    for width in (1200, 390):
        browser.resize(width, 900)
        browser.get((tmp_path / "page.html").as_uri())
        assert not browser.is_wider_than_window()
        sizes = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(sizes) == 2 * 2 + 1 and all(sizes)
    assert browser.complaints() == []


def test_one_run_is_measured_again_as_its_file_says(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setattr(xmr_e2e.runs.evaluate, "evaluate_run", lambda run, split, **rest: asked.append((split, rest)))
    report_command((make_run("one", 0.5, split="val", protocol=TRAIN),), shards=tmp_path)
    assert asked == [
        ("val", {"shards": tmp_path, "protocol": "clean", "gallery": "test+train", "report": None, "must_draw": True})
    ]


def test_what_is_missing_is_named(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("one", 0.5)
    with pytest.raises(XmrError, match=r"val\.json does not exist; there are test \(--figures\)"):
        report_command((run, run), figures="val")
    with pytest.raises(XmrError, match="measure the run first: xmr eval"):
        report_command((tmp_path,))
    with pytest.raises(XmrError, match="for the report of one run"):
        report_command((run, run), shards=tmp_path)
    with pytest.raises(XmrError, match="0 runs"):
        report_command(())
    old = {name: value for name, value in measured(0.5).items() if name != "protocol"}
    (run / "evaluation" / "test.json").write_text(json.dumps(old))
    assert main(["report", str(run), str(run)]) == 2
    assert "earlier version" in " ".join(capsys.readouterr().err.split())


def test_a_page_that_cannot_be_drawn_says_why(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = make_run("one", 0.5), make_run("two", 0.5)
    monkeypatch.setitem(sys.modules, "xmr_e2e.reports.comparison", None)
    with pytest.raises(XmrError, match=r"page\.html cannot be drawn: ModuleNotFoundError: import of xmr_e2e\.reports"):
        report_command(runs, out=tmp_path / "page.html")
