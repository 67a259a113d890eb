"""A run's figures: of every direction, in files that other shards' figures do not overwrite, in a table that fits."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from tests.helpers.embedded import embedded_split
from xmr_e2e.data.config import Data
from xmr_e2e.data.reader import SplitReader
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.directions import all_directions, cross_modal_metrics
from xmr_e2e.evaluation.figures import CrossModalMetrics, modality_title
from xmr_e2e.files import sha256_of
from xmr_e2e.methods.base import ManyModalities, Method
from xmr_e2e.models.saved_model import SavedModel
from xmr_e2e.runs import drawing, report
from xmr_e2e.runs import evaluate as engine
from xmr_e2e.runs.evaluate import SELECTABLE, evaluate, evaluate_run, metrics_table, validation_scores
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.towers.base import DatasetInfo, TowerConfig
from xmr_e2e.towers.vector import VectorTower

CLASSES = ("cat", "dog", "owl")


@dataclass(frozen=True, kw_only=True)
class AsTheyAre(ManyModalities):
    """Published features as embeddings."""

    image: TowerConfig | None = VectorTower()
    text: TowerConfig | None = VectorTower()
    audio: TowerConfig | None = VectorTower()

    def build(self, dataset: DatasetInfo) -> Method:
        return AsTheyAreModel(self, dataset)


class AsTheyAreModel(Method):
    similarity = "euclidean"

    def __init__(self, config: AsTheyAre, dataset: DatasetInfo) -> None:
        super().__init__(config, dataset)
        self.nothing = nn.Parameter(torch.zeros(1))

    def embed(self, modality: str, inputs: Any) -> Tensor:
        return self.features(modality, inputs)

    def objective(self, *_: Any) -> dict[str, Tensor]:
        raise NotImplementedError


def build(folder: Path, dataset: str, *, seed: int, labeled: bool = True) -> Path:
    """12 pairs of an image's and a text's features and 6 sounds that stand alone, in the splits val and test."""
    rng = np.random.default_rng(seed)
    samples = []
    for split in ("val", "test"):
        for number in range(18):
            names = ("image", "text") if number < 12 else ("audio",)
            middle = np.eye(3)[number % 3]
            features = {name: (middle + rng.standard_normal(3)).astype(np.float32) for name in names}
            labels = (CLASSES[number % 3],) if labeled or number else ()
            samples.append(RawSample(f"{split} {number}", split, labels=labels, features=features))
    options = BuildOptions(shard_samples=7, workers=1)
    build_shards(folder, dataset=dataset, classes=CLASSES, samples=samples, required=(), options=options)
    return folder


def model(shards: Path) -> SavedModel:
    manifest = SplitReader(shards, "test").manifest
    widths = dict.fromkeys(("image", "text", "audio"), 3)
    config = AsTheyAre()
    method = config.build(DatasetInfo(3, False, 32, torch.zeros(0, 0), widths))
    data = Data(shards=shards, workers=0)
    return SavedModel(config, data, manifest.classes, manifest.multi_label, None, widths, method, "the last epoch")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("evaluate") / "shards", "library", seed=0)


@pytest.fixture
def run(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that was trained on these shards."""
    folder = tmp_path / "run"
    folder.mkdir()
    environment = {"manifest_sha256": sha256_of(shards / "manifest.json")}
    (folder / "environment.json").write_text(json.dumps(environment))
    own = shards
    monkeypatch.setattr(engine, "load_folder", lambda folder, shards: model(shards or own))
    monkeypatch.setattr(report, "report_on_run", write_notes)
    return Run(folder)


def write_notes(path: Path, *_: Any, notes: list[str], **__: Any) -> None:
    """In place of the report, whose curves and pictures take long and have tests of their own."""
    path.write_text("\n".join(notes))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    for module in (engine, drawing):
        monkeypatch.setattr(module, "console", Console(file=out, width=300))
    return out


def test_figures_are_those_of_the_stored_features_in_every_direction(shards: Path) -> None:
    reader = SplitReader(shards, "test")
    positions = {name: reader.positions_with([name]) for name in ("image", "text", "audio")}
    rows = {
        name: np.stack([reader.features(position, name) for position in places.tolist()])
        for name, places in positions.items()
    }
    labels = np.array([reader.labels(position)[0] for position in range(len(reader))])
    keys = [reader.key(position) for position in range(len(reader))]
    embedded, _, metrics = evaluate(model(shards), "test")
    expected = all_directions(embedded_split(rows, labels, keys, positions=positions), similarity="euclidean")
    assert len(metrics.model.directions) == 6
    for name, row in metrics.model.directions.items():
        assert row.scores == pytest.approx(expected.directions[name].scores)
    assert embedded.keys == tuple(keys)


def test_validation_scores_are_flat_and_hold_all_that_can_be_selected_by(shards: Path) -> None:
    given = model(shards)
    embedded, _, metrics = evaluate(given, "val")
    scores = validation_scores(given.method, embedded)
    assert {f"average {name}" for name in SELECTABLE} <= scores.keys()
    assert "average NDCG@500" in scores
    for name, row in metrics.model.directions.items():
        assert {key.removeprefix(f"{name} "): scores[key] for key in scores if key.startswith(name)} == row.scores
    assert "image_to_text R@1" in scores
    assert "image_to_audio R@1" not in scores


def test_the_runs_own_figures_are_named_by_the_split(run: Run, printed: io.StringIO) -> None:
    evaluate_run(run, "test")
    evaluate_run(run, "val")
    written = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert written == {
        "environment.json", "evaluation/test.json", "evaluation/val.json", "report.html", "report-val.html",
    }  # fmt: skip
    document = json.loads((run.folder / "evaluation" / "test.json").read_text())
    about = ["dataset", "split", "selection", "protocol", "leaks", "classes", "training"]
    assert list(document) == [*about, "model", "random", "definitions"]
    assert document["protocol"] == {"name": "clean", "gallery": "test", "selected_on": "val", "differences": []}
    assert document["classes"] == list(CLASSES)
    assert "library, test split; protocol clean, gallery test; the last epoch" in printed.getvalue()
    assert (document["dataset"], document["split"]) == ("library", "test")
    assert len(document["random"]["figures"]) == 6
    assert "not the shards" not in printed.getvalue()


def test_figures_are_written_and_shown_before_anything_is_drawn(
    run: Run, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(path: Path, *_: Any, **__: Any) -> None:
        seen.append((json.loads((run.folder / "evaluation" / "test.json").read_text())["split"], printed.getvalue()))

    monkeypatch.setattr(report, "report_on_run", look)
    evaluate_run(run, "test")
    ((split, text),) = seen
    assert split == "test" and "times random" in text and "report" not in text.replace(str(run.folder), "")
    assert str(run.folder / "report.html") in printed.getvalue()


def fail(error: BaseException) -> Callable[..., None]:
    def draw(*_: Any, **__: Any) -> None:
        raise error

    return draw


def be_sent(number: signal.Signals) -> Callable[..., None]:
    def draw(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    return draw


FAILURES = {
    "ValueError: a bad name (test_evaluate.py, line": fail(ValueError("a bad\nname")),
    "MemoryError: no message (test_evaluate.py": fail(MemoryError()),
    "ImportError: libpng": fail(ImportError("libpng")),
    "report.html: No space left on device": fail(OSError(errno.ENOSPC, "No space left on device", "report.html")),
    "0.tar: damaged": fail(XmrError("0.tar: damaged")),
    "stopped by SIGTERM": be_sent(signal.SIGTERM),
    "stopped by SIGINT": be_sent(signal.SIGINT),
    "stopped by SIGUSR1": be_sent(signal.SIGUSR1),
}


@pytest.mark.slow
@pytest.mark.parametrize("reason", FAILURES)
def test_a_report_that_fails_costs_no_figure_and_its_command_is_named(
    run: Run, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    monkeypatch.setattr(report, "report_on_run", FAILURES[reason])
    before = [signal.getsignal(number) for number in drawing.SIGNALS]
    with caplog.at_level(logging.WARNING, "xmr_e2e"):
        result = evaluate_run(run, "val")
    assert [signal.getsignal(number) for number in drawing.SIGNALS] == before
    (warning,) = caplog.messages
    assert reason in warning
    assert warning.endswith(f"to draw it: xmr report {run.folder} --figures val")
    document = json.loads((run.folder / "evaluation" / "val.json").read_text())
    assert document["model"]["average"] == result.metrics.model.average
    assert "times random" in printed.getvalue()


@pytest.mark.slow
def test_for_the_command_that_draws_a_report_a_failure_is_an_error(
    run: Run, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "report_on_run", fail(ValueError("a bad name")))
    with pytest.raises(XmrError, match=r"report\.html cannot be drawn: ValueError: a bad name"):
        evaluate_run(run, "test", must_draw=True)


def test_a_report_elsewhere_leaves_the_runs_folder_as_it_is(run: Run, printed: io.StringIO, tmp_path: Path) -> None:
    evaluate_run(run, "test", report=tmp_path / "elsewhere.html")
    assert (tmp_path / "elsewhere.html").exists() and "times random" in printed.getvalue()
    assert [path.name for path in run.folder.iterdir()] == ["environment.json"]


@pytest.mark.slow
def test_figures_that_cannot_be_written_are_shown_all_the_same(
    run: Run, printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "test.json")
    monkeypatch.setattr(Run, "save_evaluation", fail(full))
    with pytest.raises(OSError, match="No space left"):
        evaluate_run(run, "test")
    assert "times random" in printed.getvalue()


@pytest.mark.parametrize("content", ['{"manifest_sha256": "ab', "[1]"])
def test_a_file_of_the_run_that_was_cut_is_named(run: Run, content: str) -> None:
    (run.folder / "environment.json").write_text(content)
    with pytest.raises(XmrError, match=r"environment\.json (is no JSON|holds no JSON object)"):
        run.document("environment.json")
    run.metrics.write_text('{"step": 1}\n{"st\n')
    with pytest.raises(XmrError, match=r"metrics\.jsonl is damaged"):
        run.records()


@pytest.mark.slow
def test_what_draws_is_not_imported_before_drawing_begins() -> None:
    code = "import sys, xmr_e2e.runs.evaluate; print({'sklearn', 'matplotlib', 'jinja2'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.slow
def test_figures_on_other_shards_leave_the_runs_own_alone_and_say_so(
    run: Run, printed: io.StringIO, tmp_path: Path
) -> None:
    evaluate_run(run, "test")
    before = [(run.folder / name).read_bytes() for name in ("evaluation/test.json", "report.html")]
    long = build(tmp_path / "long", "猫" * 200, seed=1)
    evaluate_run(run, "test", shards=long)
    assert (run.folder / "evaluation" / f"{'猫' * 40}-test.json").exists()
    other = build(tmp_path / "other", "Other set / 2", seed=1)
    evaluate_run(run, "test", shards=other)
    assert before == [(run.folder / name).read_bytes() for name in ("evaluation/test.json", "report.html")]
    document = json.loads((run.folder / "evaluation" / "Other_set_2-test.json").read_text())
    assert document["dataset"] == "Other set / 2"
    assert document["model"] != json.loads(before[0])["model"]
    assert "not the shards that the run was trained with" in (run.folder / "report-Other_set_2-test.html").read_text()
    assert "not the shards that the run was trained with" in printed.getvalue()
    assert str(run.folder / "evaluation" / "Other_set_2-test.json") in printed.getvalue()


def test_the_runs_own_shards_at_another_place_are_still_its_own(
    run: Run, shards: Path, tmp_path: Path, printed: io.StringIO
) -> None:
    shutil.copytree(shards, tmp_path / "moved")
    evaluate_run(run, "test", shards=tmp_path / "moved")
    assert (run.folder / "evaluation" / "test.json").exists()
    assert "not the shards" not in printed.getvalue()


def test_samples_without_labels_are_named_if_they_are_ranked(tmp_path: Path) -> None:
    folder = build(tmp_path / "shards", "unlabelled", seed=2, labeled=False)
    with pytest.raises(XmrError, match=r"1 samples have no label \(the first: .*test_0\)"):
        evaluate(model(folder), "test")


def printed_rows(metrics: CrossModalMetrics) -> tuple[int, dict[str, list[list[str]]]]:
    """The table's width in columns, and its rows by their first words."""
    out = io.StringIO()
    Console(file=out, width=300).print(metrics_table(metrics))
    lines = out.getvalue().splitlines()
    rows: dict[str, list[list[str]]] = {}
    for line in lines:
        heading, *cells = re.split(r"\s{2,}", line.strip())
        rows.setdefault(heading, []).append(cells)
    return max(map(len, lines)), rows


def test_the_table_shows_figures_over_random_ones_and_fits_80_columns() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(500) % 50
    rows = {name: np.eye(50)[labels] + 0.1 * rng.standard_normal((500, 50)) for name in ("image", "text")}
    metrics = cross_modal_metrics(embedded_split(rows, labels))
    width, shown = printed_rows(metrics)
    assert width <= 80
    names = ["mAP@all", "mAP@50", "NDCG@500", "R@1", "R@10"]
    assert shown["direction"] == [names]
    ours, floors = metrics.model, metrics.random
    ways = [(ours.directions[way].scores, floors.directions[way].scores) for way in ("image_to_text", "text_to_image")]
    for number, (scores, floor) in enumerate([*ways, (ours.average, floors.average)]):
        heading = ("image → text", "text → image", "average")[number]
        assert shown[heading] == [[f"{scores[name]:.4f}" for name in names]]
        assert shown["random"][number] == [f"{floor[name]:.4f}" for name in names]
        assert shown["times random"][number] == [f"{scores[name] / floor[name]:.1f}x" for name in names]


def test_twenty_directions_are_a_matrix_of_map_that_fits_80_columns_and_30_lines() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(60) % 6
    modalities = ("image", "text", "audio", "video", "shape3d")
    rows = {name: np.eye(6)[labels] + rng.standard_normal((60, 6)) for name in modalities}
    metrics = cross_modal_metrics(embedded_split(rows, labels))
    out = io.StringIO()
    Console(file=out, width=80).print(metrics_table(metrics))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 30 and "…" not in out.getvalue()
    for query in modalities:
        head = next(
            number for number, line in enumerate(lines) if line.strip().startswith(modality_title(query) + "  ")
        )
        others = [name for name in (*modalities, "others") if name != query]
        ways = [f"{query}_to_{gallery}" for gallery in others]
        values = [metrics.model.rows[way].scores["mAP@all"] for way in ways]
        floors = [metrics.random.rows[way].scores["mAP@all"] for way in ways]
        assert re.findall(r"\d\.\d{4}", lines[head]) == [f"{value:.4f}" for value in values]
        assert re.findall(r"\d+\.\dx", lines[head + 1]) == [
            f"{value / floor:.1f}x" for value, floor in zip(values, floors)
        ]
    (average,) = [line for line in lines if line.strip().startswith("average")]
    assert f"{metrics.model.average['mAP@all']:.4f}" in average


def test_three_modalities_have_blocks_with_the_mixed_pools_behind_the_average() -> None:
    labels = np.arange(60) % 6
    rng = np.random.default_rng(4)
    rows = {name: np.eye(6)[labels] + rng.standard_normal((60, 6)) for name in ("image", "text", "audio")}
    metrics = cross_modal_metrics(embedded_split(rows, labels))
    _, shown = printed_rows(metrics)
    headings = [name for name in shown if "→" in name or name == "average"]
    assert headings[6:] == ["average", "image → all others", "text → all others", "audio → all others"]
    assert shown["audio → all others"][0][0] == f"{metrics.model.pools['audio_to_others'].scores['mAP@all']:.4f}"


def test_a_figure_that_a_direction_lacks_is_no_zero(shards: Path) -> None:
    *_, metrics = evaluate(model(shards), "test")
    _, shown = printed_rows(metrics)
    for heading, ((*_, at_1, at_10),) in ((name, rows) for name, rows in shown.items() if "→" in name):
        assert ((at_1, at_10) == ("–", "–")) == ("audio" in heading)
    assert "–" not in shown["average"][0]
