"""Known leaks: which weights have seen which dataset's labels, and every place that says so."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.made_runs import Made
from xmr_e2e.data.config import Data
from xmr_e2e.evaluation.figures import CrossModalMetrics, Directions
from xmr_e2e.evaluation.protocol import CLEAN
from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.methods.semantic_sharing import SemanticSharing
from xmr_e2e.models.model_card import _metrics
from xmr_e2e.runs import report
from xmr_e2e.runs.evaluate import evaluation_result, heading
from xmr_e2e.runs.experiment import Experiment, Optimizer
from xmr_e2e.runs.leaks import known_leaks
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.manifest import Manifest, load_manifest
from xmr_e2e.studies.compare import compare
from xmr_e2e.studies.groups import group_runs
from xmr_e2e.studies.runs import read_run
from xmr_e2e.towers.base import TowerConfig
from xmr_e2e.towers.regions import FasterRcnn, GridRegions, StoredRegions
from xmr_e2e.training import launch, preflight

COCO, GENOME = "torchvision/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "genome.pth"
NOTE = "36 regions of torchvision's fasterrcnn_resnet50_fpn{}, weights {}, shorter side 800"
SENTENCE = "about 88 % of this dataset's val and test pictures"


def manifest(dataset: str = "mscoco", note: str = "") -> Manifest:
    return Manifest(dataset, ("a",), True, {}, extended={"regions.safetensors": note} if note else {})


@pytest.mark.parametrize(
    ("tower", "dataset", "note", "leaks"),
    [
        (FasterRcnn(), "mscoco", "", True),
        (FasterRcnn(COCO), "mscoco", "", True),
        (FasterRcnn(), "mirflickr", "", False),
        (FasterRcnn("none"), "mscoco", NOTE.format("", "coco"), False),
        (FasterRcnn(GENOME), "mscoco", "", False),
        (StoredRegions(), "mscoco", NOTE.format("", "coco"), True),
        (StoredRegions(), "mscoco", NOTE.format("", "258fb6c6e1b2a3c4"), True),
        (StoredRegions(), "mscoco", NOTE.format(", 1601 classes", "0123456789abcdef"), False),
        (StoredRegions(), "mscoco", NOTE.format("", "none"), False),
        (StoredRegions(), "nuswide_tc21", NOTE.format("", "coco"), False),
        (GridRegions(), "mscoco", NOTE.format("", "coco"), False),
    ],
)
def test_a_detector_trained_on_coco_has_seen_the_labels_of_mscoco(
    tower: TowerConfig, dataset: str, note: str, leaks: bool
) -> None:
    found = known_leaks(SemanticSharing(image=tower), manifest(dataset, note))
    assert len(found) == leaks
    assert all(each.startswith("The image tower has") and SENTENCE in each for each in found)


def leak() -> str:
    return known_leaks(SemanticSharing(), manifest())[0]


def test_a_training_warns_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Started(Exception):
        pass

    def start(*_: Any) -> None:
        raise Started

    monkeypatch.setattr(preflight, "check_start", lambda *_: None)
    monkeypatch.setattr(launch, "load_manifest", lambda _: manifest())
    monkeypatch.setattr(launch, "_open_run", start)
    experiment = Experiment(name="tiny", data=Data(tmp_path), method=SemanticSharing(), optimizer=Optimizer())
    for rank in range(2):
        accelerator: Any = SimpleNamespace(num_processes=2, is_main_process=rank == 0)
        with caplog.at_level(logging.WARNING), pytest.raises(Started):
            launch.run_experiment(experiment, accelerator)
    assert [record.getMessage() for record in caplog.records] == [f"known leak: {leak()}"]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """Of a run whose detector has seen the labels, as its file has it."""
    made = Made(dataset="mscoco", config=SemanticSharing(), method="semantic_sharing")
    run = made.write(tmp_path / "run")
    saved: dict[str, Any] = json.loads((run / "evaluation/test.json").read_text())
    return saved | {"leaks": [leak()]}


def test_the_result_file_and_the_heading_name_the_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Made(dataset="mscoco").write(tmp_path / "run")
    shards = Run(run).experiment().data.shards
    reader = SimpleNamespace(manifest=load_manifest(shards))
    monkeypatch.setattr("xmr_e2e.runs.evaluate.SplitReader", lambda *_: reader)
    side = Directions({}, {})
    metrics = CrossModalMetrics(side, side, {})
    for tower, expected in ((FasterRcnn(), [leak()]), (FasterRcnn(GENOME), [])):
        config = SemanticSharing(image=tower)
        model: Any = SimpleNamespace(config=config, data=Data(shards), selection="the last", selected_on="val")
        written = evaluation_result(model, "test", CLEAN, "test", metrics)
        assert written.leaks == tuple(expected)
        assert heading(written).splitlines()[1:] == [f"  known leak: {each}" for each in expected]


def test_result_files_are_read_with_leaks_and_without(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps(document))
    assert read_result(path).leaks == (leak(),)
    path.write_text(json.dumps({name: value for name, value in document.items() if name != "leaks"}))
    assert read_result(path).leaks == ()


def test_the_table_and_the_model_card_name_the_leak(tmp_path: Path, document: dict[str, Any]) -> None:
    run = tmp_path / "run"
    for leaks in ([], [leak()]):
        (run / "evaluation/test.json").write_text(json.dumps(document | {"leaks": leaks}))
        marks = [
            mark
            for comparison in compare(group_runs(read_run(run)), [])
            for row in comparison.rows
            for mark in row.marks
        ]
        assert (leak() in marks) == bool(leaks)
        assert (SENTENCE in _metrics(EvaluationResult.from_dict(document | {"leaks": leaks}, "test.json"))) == bool(
            leaks
        )


def test_the_report_shows_the_leak_first(
    tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Any] = {}
    run = Run(tmp_path / "run")
    reader = SimpleNamespace(manifest=replace(manifest(), notes=("a note of the builder",)))
    monkeypatch.setattr(report, "SplitReader", lambda *_: reader)
    monkeypatch.setattr(report, "SampleLookup", lambda *_: None)
    monkeypatch.setattr(report, "_findings", lambda *_: None)
    monkeypatch.setattr(report, "_facts", lambda *_: {})
    monkeypatch.setattr(report, "write_report", lambda path, result, **given: shown.update(given))
    result = EvaluationResult.from_dict(document, "test.json")
    anything: Any = SimpleNamespace(data=run.experiment().data, similarity="cosine")
    report.report_on_run(tmp_path / "report.html", run, anything, anything, result, CLEAN, notes=["another"])
    assert shown["notes"] == [leak(), "another", "a note of the builder"]
