"""Experiment trackers, with the real packages: what they have of a run equals what the run itself has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from tests.helpers.forked import train
from tests.helpers.launched import records
from tests.helpers.small_trainings import before_step, failed, small
from tests.helpers.tracked import Told, stay_local, told_mlflow, told_tensorboard, told_trackio, told_wandb
from xmr_e2e.configuration import flatten
from xmr_e2e.errors import XmrError
from xmr_e2e.runs.config_file import to_options
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.run_tracker import RunTracker
from xmr_e2e.runs.trackers import close_trackers, open_trackers, trackers_of

pytestmark = pytest.mark.slow

PACKAGES: dict[str, Callable[[Path], Told]] = {
    "tensorboard": lambda folder: told_tensorboard(folder / "runs" / "tiny" / "run"),
    "wandb": told_wandb,
    "mlflow": told_mlflow,
    "trackio": told_trackio,
}
PICTURES = {"precision over recall", "precision over scope", "map by class", "map by modality"}
MODEL = {
    "README.md",
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "modules.json",
    "config_sentence_transformers.json",
}


def fail() -> None:
    raise XmrError("enough")


def fail_before_the_eighth_step() -> None:
    before_step(8, fail)


@pytest.fixture(scope="module")
def tracked(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    """A run that failed two steps behind its checkpoint, was gone on with, and measured again."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        stay_local(patch, folder)
        experiment = small(tiny_shards, folder / "runs", report=True, checkpoint_steps=6, log_with=tuple(PACKAGES))
        assert "enough" in failed(train(experiment, folder, prepare=fail_before_the_eighth_step))
        for report in (True, False):
            again = replace(experiment, train=replace(experiment.train, report=report))
            assert train(again, folder).end() == 0
    return folder, experiment


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def told(package: str, tracked: tuple[Path, Experiment], monkeypatch: pytest.MonkeyPatch) -> Told:
    stay_local(monkeypatch, tracked[0])
    return PACKAGES[package](tracked[0])


def run_of(folder: Path) -> Path:
    return folder / "runs" / "tiny" / "run"


def name_at(package: str, name: str) -> str:
    return name.replace("@", "_at_") if package == "mlflow" else name


def test_a_tracker_has_each_number_of_the_run_once(package: str, told: Told, tracked: tuple[Path, Experiment]) -> None:
    run = run_of(tracked[0])
    expected: dict[tuple[int, str], float] = {}
    for record in records(run):
        groups = {group: record[group] for group in ("loss", "val") if group in record}
        expected |= {(record["step"], f"{g}/{name}"): v for g, terms in groups.items() for name, v in terms.items()}
        if "loss" in record:
            machine = ("images_per_second", "data_wait", "epoch", "peak_memory", "seconds")
            expected |= {(record["step"], name): record[name] for name in machine}
            expected |= {(record["step"], f"lr/{number}"): rate for number, rate in enumerate(record["lr"])}
    figures = json.loads((run / "evaluation" / "test.json").read_text())["model"]
    rows = {"average": figures["average"]} | {name: row["scores"] for name, row in figures["figures"].items()}
    expected |= {(10, f"test/{row} {name}"): value for row, scores in rows.items() for name, value in scores.items()}
    # What happened before the failure and again after it, and took another time, was logged when it happened first.
    repeated = {(7, name) for name in ("images_per_second", "data_wait", "peak_memory", "seconds")}
    found = {(step, name): value for step, name, value in told.rows}
    assert len(found) == len(told.rows)
    named = {(step, name_at(package, name)): value for (step, name), value in expected.items()}
    assert found.keys() == named.keys()
    assert {key: found[key] for key in found.keys() - repeated} == pytest.approx(
        {key: named[key] for key in named.keys() - repeated}, rel=1e-6
    )


def test_a_tracker_has_configuration_and_machine(package: str, told: Told, tracked: tuple[Path, Experiment]) -> None:
    folder, experiment = tracked
    own = {"environment": json.loads((run_of(folder) / "environment.json").read_text())}
    resolved = Run(run_of(folder)).experiment()
    assert resolved.optimizer == experiment.optimizer
    expected = dict(flatten(to_options(resolved) | own))
    if package in ("tensorboard", "mlflow"):  # which have words alone
        expected = {name: str(value) for name, value in expected.items()}
    for configuration in (expected, told.configuration):
        del configuration["train.report"]  # another one at the last start
    assert told.configuration == expected
    assert told.name == "run"


def test_a_tracker_has_the_pictures_and_the_model_of_a_whole_run(package: str, told: Told) -> None:
    assert {name.removeprefix("report/") for name in told.pictures} >= PICTURES
    assert told.model == (set() if package == "tensorboard" else MODEL)
    assert told.status in {"tensorboard": [""], "trackio": [""], "wandb": ["0"], "mlflow": ["FINISHED"]}[package]


def fill_the_disk_after_four_steps() -> None:
    """Let trackers fail from then on."""
    write = RunTracker.write

    def broken(self: RunTracker, rows: Any) -> None:
        if rows[0][0] > 4:
            raise OSError(28, "No space left on device")
        write(self, rows)

    setattr(RunTracker, "write", broken)  # noqa: B010


def test_a_tracker_that_fails_does_not_end_the_training(tiny_shards: Path, tmp_path: Path) -> None:
    experiment = small(tiny_shards, tmp_path / "runs", checkpoint_steps=2)
    training = train(experiment, tmp_path, prepare=fill_the_disk_after_four_steps)
    assert training.end() == 0, training.printed
    said = "--train.log-with tensorboard: [Errno 28] No space left on device. The training goes on without it"
    assert training.printed.count(said) == 1
    run = run_of(tmp_path)
    assert [record["step"] for record in records(run) if "loss" in record] == list(range(1, 11))
    steps = {step for step, name, _ in told_tensorboard(run).rows if name == "loss/total"}
    assert steps == {1, 2, 3, 4}
    assert not (run / "trackers.json").exists()


def test_a_tracker_that_is_new_to_a_run_gets_its_earlier_records_and_none_twice(
    tiny_shards: Path, tmp_path: Path
) -> None:
    past = [{"step": step, "stage": "all", "loss": {"total": float(step)}} for step in (1, 2, 3)]
    past.append({"step": 3, "stage": "all", "val": {"average R@1": 0.5}})
    for number, more in enumerate((3, 4)):
        accelerator = Accelerator(cpu=True)
        open_trackers(accelerator, small(tiny_shards, tmp_path), Run(tmp_path), past)
        (tracker,) = trackers_of(accelerator)
        assert tracker.goes_on == bool(number)
        again = {"step": more, "stage": "all", "loss": {"total": float(more)}}
        tracker.log_records([again])
        close_trackers(accelerator)
        past.append(again)
    rows = [(1, "loss/total", 1), (2, "loss/total", 2), (3, "loss/total", 3), (4, "loss/total", 4)]
    assert sorted(told_tensorboard(tmp_path).rows) == sorted([*rows, (3, "val/average R@1", 0.5)])


def test_a_run_with_steps_goes_on_though_a_tracker_cannot_begin(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stay_local(monkeypatch, tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    accelerator = Accelerator(cpu=True)
    past = [{"step": 1, "stage": "all", "loss": {"total": 1.0}}]
    open_trackers(accelerator, small(tiny_shards, tmp_path, log_with=("tensorboard", "mlflow")), Run(tmp_path), past)
    assert [tracker.is_open for tracker in trackers_of(accelerator)] == [True, False]
    close_trackers(accelerator)
    assert [each.message for each in caplog.records if "goes on without it" in each.message]
    assert told_tensorboard(tmp_path).rows == [(1, "loss/total", 1.0)]


def test_a_run_that_cannot_begin_at_a_tracker_leaves_nothing(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_local(monkeypatch, tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    experiment = small(tiny_shards, tmp_path / "runs", log_with=("mlflow",))
    said = failed(train(experiment, tmp_path))
    assert "--train.log-with mlflow: the run cannot begin there: The filesystem tracking backend" in said
    assert not (tmp_path / "runs" / "tiny").exists()
