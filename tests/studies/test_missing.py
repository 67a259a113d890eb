"""Which runs are missing, as commands that a shell takes, and on a real Slurm as jobs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import ROOT
from tests.helpers.built import write
from tests.helpers.study_runs import here, make_run, missing, write_manifest
from xmr_e2e.cli import main
from xmr_e2e.runs.run import Run

__all__ = ["here"]  # a fixture

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import Slurm

pytest_plugins = ["tests.helpers.slurm_cluster"]


def run_lines(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_the_seeds_without_a_measured_run_are_commands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(here / "runs/first/any", seed=0)
    make_run(here / "runs/first/other options", seed=1, epochs=2)
    make_run(here / "runs/first/seed-2", seed=2, measured=False)
    make_run(here / "runs/first/beyond", seed=9)
    assert main(missing("--seeds", "4", "--only", "first")) == 0
    told = capsys.readouterr()
    command = "accelerate launch recipes/first.py --train.seed {0} --train.name seed-{0}"
    begun = "# begun, not measured: runs/first/seed-2; to go on, if it is not under way: "
    assert told.out.splitlines() == [begun + command.format(2), command.format(1), command.format(3)]
    assert "1 of 4 runs are measured, 3 are missing" in told.err


def test_what_the_options_leave_open_is_as_the_data_have_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(here / "runs/first/any", seed=0)
    began_with = Run(here / "runs/first/any").experiment().train
    assert (began_with.select, began_with.protocol) == ("mAP@all", "clean")
    (here / "shards/first/manifest.json").unlink()
    assert run_lines(capsys, missing("--seeds", "1", "--only", "first")) == []  # what cannot be known does not count
    shutil.rmtree(here / "shards/first")
    write_manifest(here / "shards/first", {})
    (line,) = run_lines(capsys, missing("--seeds", "1", "--only", "first"))
    assert line.startswith("accelerate launch recipes/first.py --train.seed 0 ")


def test_a_seed_that_was_begun_and_measured_in_another_run_is_not_missing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(here / "runs/first/a", seed=0, measured=False)
    make_run(here / "runs/first/b", seed=0)
    assert run_lines(capsys, missing("--seeds", "1", "--only", "first")) == []


def test_what_cannot_be_run_now_is_a_comment(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run_lines(capsys, missing("--seeds", "1"))
    assert [line.partition(" ")[0] for line in lines] == ["accelerate", "#"]
    assert lines[1].startswith("# no shards in shards/second yet: accelerate launch recipes/second.py ")


def test_another_folder_of_runs_is_where_the_new_ones_go(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(here / "all my runs/first/a", seed=0)
    (line,) = run_lines(capsys, missing("all my runs", "--seeds", "2", "--only", "first"))
    assert shlex.split(line)[-2:] == ["--train.runs", "all my runs"]
    assert "--train.seed 1" in line


def test_each_recipe_of_the_project_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    lines = run_lines(capsys, missing(str(tmp_path), "--seeds", "1"))
    recipes = [path.stem for path in sorted(Path("recipes").glob("[!_]*.py"))]
    assert len(recipes) > 30
    assert [line.partition("recipes/")[2].partition(".py")[0] for line in lines] == recipes


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (missing("--only", "third"), "--only third: no such recipe; there are first, second"),
        (missing("--seeds", "0"), "--seeds must be at least 1"),
        (["table", "--submit"], "--submit goes with --missing"),
        (["table", "--only", "first"], "--only goes with --missing"),
    ],
)
def test_impossible_options_are_refused(
    arguments: list[str], complaint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


def test_outside_of_a_project_and_for_other_files_the_error_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "recipes/first.py", "experiment = 3")
    assert main(missing("--only", "first")) == 2
    assert "recipes/first.py is no recipe" in capsys.readouterr().err
    monkeypatch.chdir(here / "shards")
    assert main(missing()) == 2
    assert "no folder recipes/ with recipes here: go to the project's root" in capsys.readouterr().err


# ---- Slurm


def test_without_sbatch_submitting_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(here))
    assert main(missing("--submit")) == 2
    assert "--submit: there is no sbatch on this machine" in capsys.readouterr().err


def test_missing_seeds_are_submitted_once(
    slurm: Slurm, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    make_run(here / "runs/first/any", seed=1)
    make_run(here / "runs/first/begun", seed=3, measured=False)
    submit = missing("--seeds", "4", "--submit")
    begun, submitted, unbuilt = run_lines(capsys, submit)
    assert begun == "first: runs/first/begun is begun and not measured; not submitted"
    assert unbuilt == "second: no shards in shards/second yet; not submitted"
    assert submitted.startswith("first: seeds 0,2 are job ")
    job = submitted.rpartition(" ")[2]
    assert run_lines(capsys, submit)[1] == "first: seeds 0,2 are in the queue"
    write(here / "end", "")
    for seed in (0, 2):
        assert slurm.wait(f"{job}_{seed}") == 0, slurm.log(here, f"{job}_{seed}")
        assert f"--train.name slurm-{job}-seed-{seed} --train.seed {seed}\n" in slurm.log(here, f"{job}_{seed}")


def test_what_slurm_refuses_is_said_in_its_words(
    slurm: Slurm, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    assert main(missing("--submit")) == 2
    error = capsys.readouterr().err
    assert "sbatch --parsable --job-name=first --array=0-4" in error and "invalid partition" in error
