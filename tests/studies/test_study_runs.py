"""A study is run on this machine: killed in the middle and gone on with, past what fails, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests import ROOT
from tests.helpers.built import write
from xmr_e2e.cli import main

FILE = """
from pathlib import Path
from xmr_e2e import Data, Experiment, Optimizer, Train
from xmr_e2e.methods import Dscmr
from xmr_e2e.studies import Study, Variant, main
from xmr_e2e.towers import ImageTower, TextCnn


def study():
    method = Dscmr(image=ImageTower("resnet10_slim", "none"), text=TextCnn(), hidden=8, dim=4)
    data = Data(Path("data/shards/tiny"), image_size=32, load_size=32, workers=0)
    recipe = Experiment("tiny", data, method, Optimizer("adamw", 1e-3), train=Train(epochs=EPOCHS, batch_size=20))
    missing = Variant("without weights", {"method.image": ImageTower("resnet18", "nowhere.pth")})
    return Study("Tiny", (recipe,), (missing, Variant("w/o J3", {"method.invariance": 0.0})), seeds=(0,))


if __name__ == "__main__":
    main(study)
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "xmr_e2e.cli", "study", "run", "tiny.py", "--shards", "shards", *words]


@pytest.fixture
def here(tmp_path: Path, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/tiny").symlink_to(tiny_shards)
    write(tmp_path / "tiny.py", FILE.replace("EPOCHS", "2"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def wait_for(condition: object, process: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end and process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)


def finished(here: Path) -> list[Path]:
    return sorted(here.glob("runs/tiny/*/evaluation/test.json"))


@pytest.mark.processes
@pytest.mark.slow
def test_a_study_goes_on_after_a_kill_and_past_a_failed_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: finished(here), began)
    running = psutil.Process(began.pid).children(recursive=True)
    for each in (psutil.Process(began.pid), *running):
        each.kill()
    began.wait()
    first = {path: path.stat().st_mtime_ns for path in finished(here)}
    done = subprocess.run(command(), capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "1 of 3 runs are measured, 2 are to do" in told
    assert told.count("is measured after") == 1
    assert told.count("failed: tiny, without weights, seed ") == 1 and "nowhere.pth" in told
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(finished(here)) == 2
    assert main(["study", "show", "tiny.py", "--shards", "shards"]) == 0
    table = capsys.readouterr().out
    assert "without weights: seed 0 not measured yet." in table and "| w/o J3" in table
    again = subprocess.run(command("--only", "recipe", "w/o J3"), capture_output=True, text=True)
    assert again.returncode == 0 and "2 of 2 runs are measured, 0 are to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in first} == first


@pytest.mark.processes
@pytest.mark.slow
def test_a_study_that_is_told_to_stop_leaves_checkpoints_and_goes_on(here: Path) -> None:
    write(here / "tiny.py", FILE.replace("EPOCHS", "60"))
    words = command("--only", "recipe", "--seeds", "0")
    began = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: any(path.stat().st_size for path in here.glob("runs/tiny/*/metrics.jsonl")), began)
    began.send_signal(signal.SIGTERM)
    told, _ = began.communicate(timeout=240)
    assert began.returncode == 75 and "is stopped, with a checkpoint" in told, told
    assert not finished(here)
    left = {each.pid for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(here)} - {os.getpid()}
    assert not left
    (run,) = here.glob("runs/tiny/*")
    steps = len((run / "metrics.jsonl").read_text().splitlines())
    began = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: len((run / "metrics.jsonl").read_text().splitlines()) > steps, began)
    os.kill(began.pid, signal.SIGINT)
    told, _ = began.communicate(timeout=240)
    assert began.returncode == 75 and "goes on" in told, told
