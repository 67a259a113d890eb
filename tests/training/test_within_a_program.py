"""`xmr_e2e.train`, as a program or a notebook calls it: several trainings in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import xmr_e2e
from tests.helpers.forked import tiny
from tests.helpers.small_trainings import METHOD
from xmr_e2e.runs.experiment import Experiment

pytestmark = pytest.mark.slow


@pytest.fixture
def experiment(tiny_shards: Path, tmp_path: Path) -> Experiment:
    made = tiny(tiny_shards, tmp_path, method=METHOD)
    return replace(made, train=replace(made.train, name=None, report=False))


def test_trainings_of_other_precisions_follow_each_other_in_one_process(experiment: Experiment) -> None:
    runs = [
        xmr_e2e.train(lambda: experiment, ["--train.epochs", "1", "--train.precision", precision])
        for precision in ("fp32", "bf16")
    ]
    assert [run.experiment().train.precision for run in runs] == ["fp32", "bf16"]
    assert runs[0].folder != runs[1].folder
    for run in runs:
        assert run.results()["test"].metrics.model.average["mAP@all"] > 0
        assert xmr_e2e.open_run(run.folder) == run


def test_errors_are_raised_and_leave_no_run(experiment: Experiment) -> None:
    with pytest.raises(xmr_e2e.XmrError, match=r"--train\.batch-size"):
        xmr_e2e.train(lambda: experiment, ["--train.batch-size", "0"])
    with pytest.raises(SystemExit):
        xmr_e2e.train(lambda: experiment, ["--no-such-option", "1"])
    assert not list((experiment.train.runs / experiment.name).glob("*"))
