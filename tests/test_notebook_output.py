"""Results, runs and shards in a notebook: their figures beside random ones, and the names of others as text."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.progress import Progress

import xmr_e2e
from tests.helpers.made_runs import Made
from tests.helpers.report_pages import Page
from tests.test_hostile_output import CODES, NAMES
from xmr_e2e import notebook
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.evaluation.protocol import ProtocolRecord
from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import Manifest, Shard, Split

TAGS = {"div", "p", "strong", "table", "tr", "th", "td", "ul", "li"}
WHOLE = [name for name in NAMES if name]


def look(shown: object) -> Page:
    """The page that an object shows: elements without anything that acts."""
    page = Page(shown._repr_html_())  # type: ignore[attr-defined]
    assert {tag for tag, _ in page.tags} <= TAGS
    assert [attributes for _, attributes in page.tags if attributes] == [{"class": "tex2jax_ignore mathjax_ignore"}]
    assert not CODES.search(page.text)
    return page


def made(folder: Path, **options: object) -> EvaluationResult:
    run = Made(**options).write(folder / "run")  # type: ignore[arg-type]
    return read_result(run / "evaluation/test.json")


def test_a_result_shows_each_direction_beside_random_rankings(tmp_path: Path) -> None:
    result = made(tmp_path, scores={"mAP@all": 0.6, "R@1": 0.2})
    assert look(result).rows == [
        ["direction", "", "mAP@all", "mAP@50", "NDCG@500", "R@1", "R@10"],
        *(
            row
            for way in ("image → text", "text → image", "average")
            for row in (
                [way, "model", "0.6000", "–", "–", "0.2000", "–"],
                ["", "random", "0.1500", "–", "–", "0.0500", "–"],
                ["", "times random", "4.0x", "–", "–", "4.0x", "–"],
            )
        ),
    ]


def test_a_result_shows_what_has_to_be_known_of_it(tmp_path: Path) -> None:
    protocol = ProtocolRecord("captions", "test", "val", ("Each caption is an item.",))
    result = replace(made(tmp_path), protocol=protocol, leaks=("a leak",), label_noise="40 % symmetric")
    text = look(result).text
    for words in (
        "captions",
        "Each caption is an item.",
        "known leak: a leak",
        "40 % symmetric",
        "epoch 1, on the val",
    ):
        assert words in text


@pytest.mark.parametrize("name", WHOLE)
def test_names_of_others_are_text(name: str, tmp_path: Path) -> None:
    result = replace(made(tmp_path), dataset=name, selection=name, leaks=(name,), label_noise=name)
    assert look(result).text.count(one_line(name)) >= 4
    about = Split((Shard("train-00000.tar", 3, 4096, "0" * 64),), {name: 3}, {"image": 3, "text": 3})
    manifest = Manifest(name, (name,), False, {"train": about}, notes=(name,))
    assert look(manifest).text.count(one_line(name)) >= 2
    configuration = {"name": name, "method": {"type": f"m:{name}"}, "data": {"shards": name}, "train": {"epochs": name}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(configuration))
    assert look(Run(tmp_path / "run")).text.count(one_line(name)) >= 3


def test_shards_show_splits_classes_and_notes(tiny_shards: Path) -> None:
    page = look(xmr_e2e.load_manifest(str(tiny_shards)))
    assert [row[:4] for row in page.rows] == [
        ["split", "samples", "image", "text"],
        ["train", "40", "40", "40"],
        ["val", "12", "12", "12"],
        ["test", "12", "12", "12"],
    ]
    assert "4 classes, one label per sample" in page.text and "apple (16)" in page.text


def test_a_run_shows_what_it_is_and_its_figures(tmp_path: Path) -> None:
    folder = Made(scores={"mAP@all": 0.6}, training={"seconds": 5.0, "peak_memory": 10**9}).write(tmp_path / "run")
    run = xmr_e2e.open_run(str(folder))
    assert run.results()["test"].metrics.model.average == {"mAP@all": 0.6}
    rows = look(run).rows
    assert ["recipe", "dscmr_wikipedia"] in rows and ["method", "Dscmr"] in rows
    assert ["model", "0.6000", "–", "–", "–", "–"] in rows and ["random", "0.1500", "–", "–", "–", "–"] in rows


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl", "evaluation/test.json"])
def test_a_damaged_run_is_shown_as_far_as_it_can_be(name: str, tmp_path: Path) -> None:
    folder = Made().write(tmp_path / "run")
    (folder / name).write_text("<b>{[\n")
    text = look(xmr_e2e.open_run(folder)).text
    assert str(folder) in text
    assert ("evaluation/test.json" in text) == (name == "evaluation/test.json")


def test_a_result_without_random_rows_is_shown(tmp_path: Path) -> None:
    """As another's file may be: to look at it is no reason to fail."""
    result = made(tmp_path)
    metrics = replace(result.metrics, random=replace(result.metrics.random, directions={}, average={}))
    assert ["", "random", "–", "–", "–", "–", "–"] in look(replace(result, metrics=metrics)).rows


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(XmrError, match="no run folder"):
        xmr_e2e.open_run(tmp_path)
    Made().write(tmp_path / "recipe" / "run")
    with pytest.raises(XmrError):
        xmr_e2e.open_run(tmp_path / "recipe")


def test_a_long_text_is_cut() -> None:
    assert len(notebook.text_of("x" * 10**6)) == notebook.LONGEST + 1


def test_a_bar_does_not_move_where_a_notebook_reads_what_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks ask for colors; each time that the bar is redrawn would be lines of their output."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    with Progress(console=Console(file=out, width=80), refresh_per_second=1000) as bar:
        for _ in bar.track(range(20), description="reading"):
            bar.refresh()
    assert out.getvalue().count("reading") == 1 and "\x1b[2K" not in out.getvalue() and "\x1b[" in out.getvalue()
