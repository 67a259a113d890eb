"""Packages that not everybody installs: what needs one says so before it begins, and a training needs none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.helpers.launched import RECIPE, SMALL
from xmr_e2e.cli import main
from xmr_e2e.doctor.memory import Processes
from xmr_e2e.doctor.recipe import check_recipe, load_experiment
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import BY_HAND, EXTRAS
from xmr_e2e.training.preflight import check_start

MODULES = [module for modules in EXTRAS.values() for module in modules] + [*BY_HAND]


ABSENT = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {modules} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""
"""None in sys.modules would do, but scikit-learn asks it for pyarrow, too"""


def without(modules: list[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process for which these modules are not installed."""
    command = [sys.executable, "-c", ABSENT.format(modules=modules) + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("serve", ["search", "run", "a dog"]),
        ("serve", ["index", "run", "shards"]),
        ("serve", ["serve", "run"]),
        ("onnx", ["export", "run", "out", "--onnx"]),
        ("parquet", ["embed", "run", "photo.jpg", "--out", "x.parquet"]),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    extra: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before it looks at its run, which is not there."""
    monkeypatch.chdir(tmp_path)
    for module in EXTRAS[extra]:
        monkeypatch.setitem(sys.modules, module, None)
        assert main(command) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert module in error and f"pip install 'xmr-e2e[{extra}]'" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tracker", "how"),
    [
        ("wandb", "pip install 'xmr-e2e[wandb]'"),
        ("mlflow", "pip install 'xmr-e2e[mlflow]'"),
        ("trackio", "pip install --no-deps trackio gradio-client orjson brotli"),
        ("comet_ml", "pip install comet_ml"),
    ],
)
def test_a_tracker_that_is_not_installed_is_refused_and_found_by_the_doctor(
    tracker: str, how: str, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load_experiment(
        RECIPE, ["--data.shards", str(tiny_shards), *SMALL, "--train.log-with", "tensorboard", tracker]
    )
    monkeypatch.setitem(sys.modules, tracker, None)
    said = f"--train.log-with {tracker} needs what is not installed ({tracker}): {how}"
    with pytest.raises(XmrError, match=re.escape(said)):
        check_start(experiment, 1)
    (found,) = (each for each in check_recipe(experiment, Processes(1, 1)) if each.level == "problem")
    assert found.about == "options" and said in found.text


@pytest.mark.slow
def test_zero_without_deepspeed_says_what_to_install_and_leaves_no_run(tiny_shards: Path, tmp_path: Path) -> None:
    code = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    group = "import os; os.environ |= dict(WORLD_SIZE='2', RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='1')\n"
    options = ["--data.shards", str(tiny_shards), "--train.runs", str(tmp_path / "runs"), *SMALL, "--train.zero", "1"]
    result = without(["deepspeed"], group + code, "recipes/alscor_flickr8k.py", *options)
    assert result.returncode == 2, result.stderr
    error = " ".join(result.stderr.split())
    assert "--train.zero 1 needs what is not installed (deepspeed): pip install 'xmr-e2e[deepspeed]'" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_training_with_its_evaluation_and_report_needs_no_extra(tiny_shards: Path, tmp_path: Path) -> None:
    code = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    options = ["--data.shards", str(tiny_shards), "--train.runs", str(tmp_path), *SMALL, "--train.epochs", "1"]
    options += ["--train.report"]
    result = without(MODULES, code, "recipes/alscor_flickr8k.py", *options, "--train.name", "x")
    assert result.returncode == 0, result.stderr
    run = tmp_path / "alscor_flickr8k" / "x"
    assert {"report.html", "model.safetensors"} <= {path.name for path in run.iterdir()}, result.stderr
    # What is done with a run afterwards; in one process, since each imports torch.
    (run / "report.html").unlink()
    code = """
from xmr_e2e.cli import main
run, shards, out = sys.argv[1:]
for command in f"report {run}", f"table {run}", f"export {run} {out}/model", f"embed {run} {shards} --out {out}/x.npz":
    assert main(command.split()) == 0, command
"""
    result = without(MODULES, code, str(run), str(tiny_shards), str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_help_needs_no_extra() -> None:
    code = "from xmr_e2e.cli import main; sys.exit(main(sys.argv[1:]))"
    for words in ([], ["serve"], ["export"]):
        result = without(MODULES, code, *words, "--help")
        assert result.returncode == 0 and "usage: xmr" in result.stdout, result.stderr
