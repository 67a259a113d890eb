"""Whole trainings through the real command line, on a miniature.

`launch` starts new processes, by each launcher at least once; the others are `typed`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import xmr_e2e
from recipes import alscor_flickr8k
from tests.helpers.launched import ACCELERATE, RECIPE, TORCHRUN, command, launch, only_run, records, trace
from tests.helpers.typed import Typed, typed, typed_ranks
from xmr_e2e.cli import main
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.training.launch import main as train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted run of three epochs, and what it printed."""
    runs = tmp_path_factory.mktemp("finished")
    result = launch(
        command(tiny_shards, runs, "--train.epochs", "3", "--train.report", "--data.workers", "1"), ACCELERATE
    )
    assert result.returncode == 0, result.stderr
    return only_run(runs), result.stdout + result.stderr


def test_a_run_leaves_all_that_it_promises(finished: tuple[Path, str]) -> None:
    run, printed = finished
    names = {"config.json", "environment.json", "metrics.jsonl", "model.safetensors", "model.json", "report.html"}
    assert names <= {path.name for path in run.iterdir()}
    assert list(run.glob("events.out.tfevents.*"))
    environment = json.loads((run / "environment.json").read_text())
    assert environment["libraries"]["torch"] and len(environment["manifest_sha256"]) == 64
    assert str(run / "report.html") in printed.replace("\n", "")
    assert "image → text" in printed and "random" in printed


def test_every_step_and_every_validation_is_recorded(finished: tuple[Path, str]) -> None:
    steps = [record for record in records(finished[0]) if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 31))
    assert {"correlation", "discrimination", "adversary", "total"} == set(steps[0]["loss"])
    assert all(0 <= record["data_wait"] <= 1 and record["images_per_second"] > 0 for record in steps)
    validations = [record for record in records(finished[0]) if "val" in record]
    assert [record["epoch"] for record in validations] == [1, 2, 3]


def test_the_kept_model_is_the_best_on_validation(finished: tuple[Path, str]) -> None:
    validations = [record for record in records(finished[0]) if "val" in record]
    best = max(validations, key=lambda record: record["val"]["average mAP@all"])
    kept = [record for record in validations if record.get("selected")][-1]
    assert kept["epoch"] == best["epoch"]
    document = json.loads((finished[0] / "evaluation" / "test.json").read_text())
    assert f"epoch {best['epoch']}, the best by mAP@all on the validation split" in document["selection"]
    assert document["model"]["figures"]["image_to_text"]["queries"] == 12
    assert document["model"]["average"]["mAP@all"] > document["random"]["average"]["mAP@all"]


def test_the_saved_model_gives_the_figures_of_the_run_anywhere(finished: tuple[Path, str], tmp_path: Path) -> None:
    run = tmp_path / "moved"
    shutil.copytree(finished[0], run)
    before = json.loads((run / "evaluation" / "test.json").read_text())
    result = typed(["-m", "xmr_e2e.cli", "eval", str(run)])
    assert result.returncode == 0, result.stderr
    after = json.loads((run / "evaluation" / "test.json").read_text())
    for direction in ("image_to_text", "text_to_image"):
        assert after["model"]["figures"][direction]["scores"] == pytest.approx(
            before["model"]["figures"][direction]["scores"], abs=1e-7
        )
    assert xmr_e2e.load(run).embed_texts(["a picture of apple"]).shape == (1, 4)


def test_export_writes_the_selected_model_to_a_folder_of_its_own(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = finished[0], tmp_path / "out"
    assert main(["export", str(run), str(out)]) == 0
    assert f"weights written: {out}" in capsys.readouterr().out
    for_others = ["config_sentence_transformers.json", "modules.json"]
    names = sorted(["README.md", "config.json", "model.safetensors", "vocab.txt", *for_others])
    assert sorted(path.name for path in out.iterdir()) == names
    texts = ["a picture of apple", "the sea"]
    assert (xmr_e2e.load(out).embed_texts(texts) == xmr_e2e.load(run).embed_texts(texts)).all()
    for options, message in (
        ([str(out)], "holds a model already"),
        ([str(tmp_path / "new"), "--checkpoint", "stage-09"], "stage-09 is no whole checkpoint"),
        ([str(tmp_path / "new"), "--checkpoint", "stage-01-epoch-0000-step-000000"], "the training was over"),
    ):
        assert main(["export", str(run), *options]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_killed_in_mid_epoch_and_resumed_gives_the_uninterrupted_trace(
    finished: tuple[Path, str], tiny_shards: Path, tmp_path: Path
) -> None:
    options = ("--train.epochs", "3", "--train.checkpoint-steps", "4")
    process = Typed(command(tiny_shards, tmp_path, *options))
    wait_for(lambda: list(tmp_path.glob("alscor_flickr8k/*/checkpoints/stage-00-epoch-0001-step-000002")), process)
    process.kill()
    assert process.end().returncode == -signal.SIGKILL
    run = only_run(tmp_path)
    assert not (run / "evaluation").exists()
    resumed = typed(command(tiny_shards, tmp_path, *options, "--train.resume", str(run)))
    assert resumed.returncode == 0, resumed.stderr
    assert trace(run) == trace(finished[0])


def test_an_interrupt_saves_and_says_how_to_go_on(
    finished: tuple[Path, str], tiny_shards: Path, tmp_path: Path
) -> None:
    arguments = command(tiny_shards, tmp_path, "--train.epochs", "3")
    process = Typed(arguments)
    wait_for(lambda: list(tmp_path.glob("alscor_flickr8k/*/model.json")), process)  # the first epoch is over
    os.kill(process.pid, signal.SIGINT)
    ended = process.end()
    run = only_run(tmp_path)
    assert ended.returncode == 75, ended.stderr
    assert f"--train.resume {run}" in " ".join(ended.stderr.split())
    assert typed([*arguments, "--train.resume", str(run)]).returncode == 0
    assert trace(run) == trace(finished[0])


@pytest.mark.processes
def test_an_interrupted_run_of_two_processes_goes_on_with_one(
    finished: tuple[Path, str], tiny_shards: Path, tmp_path: Path
) -> None:
    arguments = command(tiny_shards, tmp_path, "--train.epochs", "2")
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [*TORCHRUN, "--standalone", "--nproc-per-node", "2", *arguments],
            stdout=log, stderr=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("alscor_flickr8k/*/model.json")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.wait()
    run = only_run(tmp_path)
    wait_for(lambda: list(run.glob("checkpoints/stage-00-epoch-*[0-9]")))
    assert (tmp_path / "log").read_text().count("the training stops after this step") == 2  # no loader process says it
    resumed = typed([*arguments, "--train.resume", str(run)])
    assert resumed.returncode == 0, resumed.stderr
    found = [(record["step"], record["samples"]) for record in records(run) if "loss" in record]
    assert found == [(r["step"], r["samples"]) for r in records(finished[0]) if "loss" in r and r["epoch"] <= 2]


def test_data_without_labels_is_refused_at_once(tiny_samples: tuple[RawSample, ...], tmp_path: Path) -> None:
    unlabeled = [replace(sample, labels=()) for sample in tiny_samples]
    build_shards(tmp_path / "shards", dataset="tiny", classes=[], samples=unlabeled, options=BuildOptions(workers=1))
    result = typed(command(tmp_path / "shards", tmp_path))
    assert result.returncode == 2
    assert "the samples of the split 'train' have no labels" in " ".join(result.stderr.split())


def test_a_training_split_alone_is_trained_and_nothing_measured(
    tiny_samples: tuple[RawSample, ...], tmp_path: Path
) -> None:
    train = [sample for sample in tiny_samples if sample.split == "train"]
    classes = sorted({label for sample in train for label in sample.labels})
    build_shards(tmp_path / "shards", dataset="tiny", classes=classes, samples=train, options=BuildOptions(workers=1))
    options = "--train.epochs 1 --train.select last --data.workers 0".split()
    result = typed(command(tmp_path / "shards", tmp_path, *options))
    assert result.returncode == 0, result.stderr
    assert "neither test nor validation split" in " ".join(result.stderr.split())
    assert xmr_e2e.load(only_run(tmp_path)).selection == "epoch 1, the last one"


def test_a_run_is_resumed_with_its_own_options_only(finished: tuple[Path, str]) -> None:
    options = ["--train.epochs", "4", "--optimizer.lr", "0.5"]
    result = typed([str(RECIPE), *options, "--train.resume", str(finished[0])])
    assert result.returncode == 2
    printed = " ".join(result.stderr.split())
    assert "optimizer.lr: 0.003 in the run, 0.5 now train.epochs: 3 in the run, 4 now" in printed


def test_a_run_is_resumed_without_its_options(finished: tuple[Path, str], tmp_path: Path) -> None:
    """All of them are in the run; where its folder went, none of the training's own paths count."""
    run = Path(shutil.copytree(finished[0], tmp_path / "moved"))
    shutil.rmtree(sorted((run / "checkpoints").iterdir())[-1])
    (run / "evaluation" / "test.json").unlink()
    result = typed([str(RECIPE), "--train.resume", str(run)])
    assert result.returncode == 0, result.stderr
    assert trace(run) == trace(finished[0])
    assert (run / "evaluation" / "test.json").exists()


@pytest.mark.processes
def test_two_processes_train_on_the_same_samples_and_measure_each_once(
    finished: tuple[Path, str], tiny_shards: Path, tmp_path: Path
) -> None:
    arguments = command(tiny_shards, tmp_path, "--train.epochs", "1", "--train.micro-batches", "2")
    result, _ = typed_ranks(arguments, 2)
    assert result.returncode == 0, result.stderr
    run = only_run(tmp_path)
    assert "2 process(es) on cpu" in result.stderr
    alone = [record["samples"] for record in records(finished[0]) if record["epoch"] == 1 and "loss" in record]
    assert [record["samples"] for record in records(run) if "loss" in record] == alone
    document = json.loads((run / "evaluation" / "test.json").read_text())
    assert (
        document["model"]["figures"]["text_to_image"]["queries"]
        == document["model"]["figures"]["text_to_image"]["gallery"]
        == 12
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method.image.weigths", "none"], "--method.image.weights"),
        (["--data.shards", "nowhere"], "nowhere/manifest.json does not exist: build the shards first"),
        (["--method.image.name", "alexnett"], "alexnet"),
        (["--train.batch-size", "1"], "--train.batch-size must be at least 2, not 1"),
        (["--train.select", "mAP@10"], "--train.select 'mAP@10' is none of mAP@all, mAP@50"),
        (["--method.dim", "3"], "--method.dim must be at least 4"),
        (["--method.image.name", "alexnet"], "alexnet cannot take images of 48 pixels"),
        (["--train.runs", "/proc/runs"], "/proc/runs"),
        (["--optimizer.lr-overrides.towers.image", "x"], "--optimizer.lr-overrides.towers.image"),
    ],
)
def test_a_wrong_option_gets_a_clear_error(
    tiny_shards: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", command(tiny_shards, tmp_path, *options))
    with pytest.raises(SystemExit) as ended:
        train(alscor_flickr8k.experiment)
    said = capfd.readouterr()
    assert ended.value.code == 2
    assert message in " ".join((said.out + said.err).split())
    assert "Traceback" not in said.err


def test_a_process_with_a_wrong_option_ends_with_2_and_no_traceback(tiny_shards: Path, tmp_path: Path) -> None:
    result = launch(command(tiny_shards, tmp_path, "--train.batch-size", "1"))
    assert result.returncode == 2 and "--train.batch-size must be at least 2, not 1" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_of_a_process() -> None:
    result = launch([str(RECIPE), "--help"])
    assert result.returncode == 0 and "Flickr8k" in result.stdout and "--help-all" in result.stdout


def wait_for(found: Any, process: subprocess.Popen[Any] | Typed | None = None, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert process is None or process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, "the run did not get so far in time"
        time.sleep(0.02)
