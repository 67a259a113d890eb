"""Each time that the host waits for the device in a step of each method: at most once, for the step before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.simulated_device import DEVICE, OnDevice, simulated_device
from benchmarks.waiting import waits_of_step
from tests.helpers.small_methods import METHODS, batch, build
from xmr_e2e.data.batch import Batch
from xmr_e2e.data.config import Data
from xmr_e2e.data.preparation import Preparation
from xmr_e2e.methods.stages import Stage
from xmr_e2e.runs.experiment import Experiment, Optimizer, Train

CORRELATION = {"_linalg_check_errors": 2, "_linalg_svd": 1}
"""a canonical correlation's: its decompositions run on the host's orders, and say themselves whether they succeeded"""
OF_ITS_OWN: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(
        ("alscor", "alscor without adversary", "dcca", "dccae", "dccae without reconstruction"), CORRELATION
    ),
    "drcl": {"linalg_pinv": 1},
    "drcl without label": {"linalg_pinv": 1},
    "dscmr printed": {"_linalg_check_errors": 2},
    "semantic_sharing": {"nonzero": 1},
    "semantic_sharing released": {"nonzero": 1},
}
"""method -> waits in a step of its own stages that no other has: of linear algebra, and for the number of masked words,
on which sizes of tensors depend"""


def seen_batch(stage: Stage) -> Batch:
    """The samples of a stage as the loader gives them."""
    pictures = torch.randint(0, 256, (12, 3, 40, 40), dtype=torch.uint8)
    whole = replace(batch(), inputs={**batch().inputs, "image": pictures}, preparation=Preparation(32))
    return whole.with_inputs({name: whole.inputs[name] for name in stage.modalities})


def waits_of(name: str, number: int, optimizer: Optimizer = Optimizer(), **train: Any) -> Counter[str]:
    """Of the second step of a stage, and of the outcome of the first."""
    method = build(name)
    stage = method.training_stages[number]
    experiment = Experiment("tiny", Data(Path("none")), METHODS[name](), optimizer, train=Train(**train))
    return waits_of_step(method, experiment, stage, seen_batch(stage))


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("contrastive", "dscmr", "drcl") else pytest.param(name, marks=pytest.mark.slow)
        for name in METHODS
        if name != "probe"
    ],
)
def test_a_step_waits_once_at_most_and_for_the_step_before(name: str) -> None:
    stages = [number for number, stage in enumerate(build(name).training_stages) if not stage.closed_form]
    assert stages
    for number in stages:
        found = waits_of(name, number)
        others = {key: count for key, count in found.items() if key != "event"}
        assert found["event"] == 1, number
        assert others in ({}, OF_ITS_OWN.get(name)), number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "train"),
    [
        (Optimizer("sgd"), {}),
        (Optimizer(), {"clip_norm": 1.0}),
        (Optimizer(), {"micro_batches": 3}),
        (Optimizer(), {"micro_tokens": 48}),
        (Optimizer(), {"micro_pixels": 4000}),
    ],
)
def test_no_option_of_the_step_waits_more(optimizer: Optimizer, train: dict[str, Any]) -> None:
    assert waits_of("dscmr", 0, optimizer, **train) == {"event": 1}


def test_the_simulated_device_sees_every_wait() -> None:
    """The waits that the tests above find none of."""
    with simulated_device() as device:
        rows = torch.arange(4.0).to(DEVICE)
        assert isinstance(rows, OnDevice) and device.waits == {"to the device": 1}
        for action, kind in WAITS:
            device.waits.clear()
            action(rows)
            assert device.waits == {kind: 1}, kind
        rows.pin_memory  # noqa: B018
        torch.ones(2).pin_memory().to(DEVICE, non_blocking=True)
        assert (rows.sum() + 1).device == DEVICE


WAITS: list[tuple[Any, str]] = [
    (lambda rows: rows[0].item(), "_local_scalar_dense"),
    (lambda rows: bool(rows.isfinite().all()), "_local_scalar_dense"),
    (lambda rows: rows.cpu(), "from the device"),
    (lambda rows: rows[rows > 1], "mask as index"),
    (lambda rows: rows.nonzero(), "nonzero"),
    (lambda rows: torch.ones(4, device=rows.device) + torch.tensor([1.0], device=rows.device), "to the device"),
    (lambda rows: torch.linalg.cholesky(rows.diag_embed() + torch.eye(4, device=rows.device)), "_linalg_check_errors"),
]
