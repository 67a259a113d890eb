"""Checkpoints and the log that goes with them: whole or not there, the newest undamaged one at resume."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from xmr_e2e.errors import XmrError
from xmr_e2e.runs.checkpoint import Checkpoint, TrainingProgress
from xmr_e2e.runs.experiment import Optimizer
from xmr_e2e.runs.metrics_log import MetricsLog
from xmr_e2e.runs.run import Run
from xmr_e2e.training.checkpoints import Checkpoints


def prepared() -> tuple[Accelerator, Any, Any]:
    torch.manual_seed(0)
    accelerator, model = Accelerator(cpu=True), nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    return accelerator, *accelerator.prepare(model, Optimizer("adamw", lr=1e-2).build(model, ""))


def step(model: Any, optimizer: Any) -> None:
    model(torch.arange(12.0).view(2, 6)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def found(checkpoints: Checkpoints) -> Checkpoint:
    checkpoint = checkpoints.find()
    assert checkpoint is not None
    return checkpoint


def test_a_checkpoint_brings_back_model_optimiser_and_position(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accelerator, model, optimizer = prepared()
    checkpoints = Checkpoints(accelerator, model, tmp_path, kept=2)
    step(model, optimizer)
    assert checkpoints.find() is None
    checkpoints.save(TrainingProgress(1, 3, 4, 0.5))
    (tmp_path / "checkpoints" / "stage-00-epoch-0009-step-000000.part").mkdir()  # a save that was interrupted
    step(model, optimizer)
    resumed, model_again, optimiser_again = prepared()
    again = Checkpoints(resumed, model_again, tmp_path, kept=2)
    assert found(again).progress == TrainingProgress(1, 3, 4, 0.5)
    assert not caplog.records  # of what was interrupted nothing is said
    again.load(found(again))
    step(model_again, optimiser_again)
    for name, value in model.state_dict().items():
        assert torch.equal(value, model_again.state_dict()[name]), name


def test_the_last_checkpoints_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    checkpoints = Checkpoints(*prepared()[:2], tmp_path, kept=3)
    positions = [
        TrainingProgress(0, 9, 9),
        TrainingProgress(2, 0, 9),
        TrainingProgress(2, 0, 10),
        TrainingProgress(10, 0, 0),
    ]
    for position in positions:
        checkpoints.save(position)
    checkpoints.close()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [
        "stage-02-epoch-0000-step-000009", "stage-02-epoch-0000-step-000010", "stage-10-epoch-0000-step-000000"
    ]  # fmt: skip
    assert found(checkpoints).progress == positions[-1]


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (RuntimeError("size mismatch for weight"), False),
        (ValueError("Broken pipe"), False),  # of a file, not of a collective
        (RuntimeError("Connection closed by peer"), True),
        (torch.OutOfMemoryError("1 GiB"), True),
        (XmrError("the disk is gone"), True),
    ],
)
def test_what_a_checkpoint_is_to_blame_for_is_told_from_what_happened_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, own: bool
) -> None:
    accelerator, model, _ = prepared()
    checkpoints = Checkpoints(accelerator, model, tmp_path, kept=2)
    checkpoints.save(TrainingProgress(0, 1))

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(accelerator, "load_state", fail)
    with pytest.raises(type(error) if own else XmrError) as caught:
        checkpoints.load(found(checkpoints))
    assert (caught.value is error) == own
    assert own or f"cannot be gone on with ({type(error).__name__}: {error})" in str(caught.value)


@pytest.mark.parametrize("damage", ["a flipped byte", "a cut file", "a missing file", "no seal", "half a seal"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(*prepared()[:2], tmp_path, kept=2)
    for epoch in (1, 2):
        checkpoints.save(TrainingProgress(0, epoch))
    folder = found(checkpoints).folder
    weights, seal = folder / "weights.safetensors", folder / "checkpoint.json"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    match damage:
        case "a flipped byte":
            weights.write_bytes(content)
        case "a cut file":
            weights.write_bytes(content[:-8])
        case "a missing file":
            (folder / "optimizer.bin").unlink()
        case "no seal":
            seal.unlink()
        case "half a seal":
            seal.write_bytes(seal.read_bytes()[:50])
    with caplog.at_level(logging.WARNING):
        assert found(checkpoints).progress == TrainingProgress(0, 1)
    assert f"{folder} is no whole checkpoint" in caplog.text


def test_a_checkpoint_brings_back_the_epoch_that_was_kept_then(tmp_path: Path) -> None:
    checkpoints = Checkpoints(*prepared()[:2], tmp_path, kept=2)
    kept = tmp_path / "kept"  # replaced as the trainer does, never written into
    for content in ("early", "late"):
        kept.write_text(content)
        os.replace(kept, tmp_path / "model.json")
        if content == "early":
            checkpoints.save(TrainingProgress(0, 1))
    checkpoints.find()
    assert (tmp_path / "model.json").read_text() == "early"


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        Checkpoints(*prepared()[:2], disk, kept=2).save(TrainingProgress(0, 1))
        large, accelerator = nn.Linear(600, 600), Accelerator(cpu=True)
        checkpoints = Checkpoints(accelerator, accelerator.prepare(large), disk, kept=2)
        with pytest.raises(
            XmrError, match=r"step-000000: the checkpoint cannot be written: .*from stage-00-epoch-0001"
        ):
            checkpoints.save(TrainingProgress(0, 2))
        assert [path.name for path in (disk / "checkpoints").iterdir()] == ["stage-00-epoch-0001-step-000000"]
        assert found(checkpoints).progress == TrainingProgress(0, 1)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# The log


def test_on_resume_the_log_takes_back_what_happens_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    log = MetricsLog(run, first_step=0, validated=False, enabled=True)
    for step in range(1, 6):
        log.step({"step": step, "loss": {"total": float(step)}})
    log.close()
    again = MetricsLog(run, first_step=3, validated=False, enabled=True)
    again.step({"step": 4, "loss": {"total": 40.0}})
    again.close()
    assert [(r["step"], r["loss"]["total"]) for r in run.records()] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_a_validation_after_the_checkpoint_of_the_same_step_happens_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    log = MetricsLog(run, first_step=0, validated=False, enabled=True)
    log.step({"step": 1, "loss": {"total": 1.0}})
    log.validation({"step": 1, "epoch": 1, "val": {"average mAP@all": 0.5}})
    log.close()
    MetricsLog(run, first_step=1, validated=False, enabled=True).close()
    assert [("loss" in record, "val" in record) for record in run.records()] == [(True, False)]


def test_a_record_that_was_cut_is_no_record(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.metrics.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2, "loss": {"total": 1.0}})[:-1])
    assert run.records() == [{"step": 1}]


@pytest.mark.parametrize(
    ("saved", "asked", "fits"),
    [
        # ZeRO's stage and the number of processes: a whole state is everybody's, parts are those of as many processes.
        ((0, 2), (0, 2), True),
        ((0, 2), (0, 3), True),
        ((1, 2), (1, 2), True),
        ((1, 2), (1, 3), False),
        ((3, 4), (3, 1), False),
        ((0, 2), (1, 2), False),
        ((1, 2), (0, 2), False),
        ((2, 2), (3, 2), False),
    ],
)
def test_a_state_in_parts_fits_as_many_processes_and_the_same_stage_alone(
    tmp_path: Path, saved: tuple[int, int], asked: tuple[int, int], fits: bool
) -> None:
    assert Checkpoint(tmp_path, TrainingProgress(0, 0), *saved).fits(*asked) is fits
