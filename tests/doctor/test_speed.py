"""The doctor's look at decoding beside the image network's steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.helpers.launched import RECIPE, SMALL
from xmr_e2e.doctor import speed
from xmr_e2e.doctor.finding import Finding
from xmr_e2e.doctor.memory import Processes
from xmr_e2e.doctor.method import build, quick_words
from xmr_e2e.doctor.recipe import load_experiment
from xmr_e2e.doctor.speed import BATCH, check_speed, compare, decoding_rate
from xmr_e2e.methods.base import Method
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards.manifest import load_manifest


@pytest.mark.parametrize(
    ("decoded", "trained", "workers", "waits"),
    [
        (100.0, 50.0, 1, None),
        (100.0, 204.0, 2, None),
        (100.0, 400.0, 2, "2 loader processes would decode 200 pictures/s, .* 400: it would wait for 50% of the time"),
        (100.0, 1000.0, 1, "1 loader process would decode 100 .* 90%"),
        (100.0, 25.0, 0, "the training's own process would decode 100 .* 20%"),  # 10 ms of each picture's 50
        (10000.0, 25.0, 0, None),
    ],
)
def test_the_share_of_the_time_that_a_training_waits(
    decoded: float, trained: float, workers: int, waits: str | None
) -> None:
    found = compare(decoded, trained, workers)
    assert found.about == "decoding" and found.level == ("note" if waits else "ok")
    if waits:
        assert re.search(waits, found.text) and "--resize 256" in found.text


@pytest.mark.parametrize("on_gpu", [True, False])
def test_the_gpu_is_named_where_it_can_decode(on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "can_decode_on_gpu", lambda: on_gpu)
    assert ("--data.decode device" in compare(1, 100, 1).text) == on_gpu


def test_decoding_is_counted_behind_a_first_batch_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 1.0)
    clock = iter([10.0, 10.4, 10.8, 11.2])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    taken: list[int] = []
    assert decoding_rate(lambda number: taken.append(number) or torch.empty(0)) == pytest.approx(3 * BATCH / 1.2)
    assert taken == [BATCH] * 4


def made(shards: Path, *options: str) -> tuple[Experiment, Method]:
    experiment = load_experiment(RECIPE, ["--data.shards", str(shards), *SMALL, *options])
    return experiment, build(experiment, load_manifest(shards), quick_words(experiment))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)


def test_a_network_is_measured_without_being_changed(tiny_shards: Path) -> None:
    experiment, method = made(tiny_shards)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    (found,) = check_speed(experiment, method, Processes(1, 1))
    assert isinstance(found, Finding) and "pictures/s" in found.text
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("options", [["--method.frozen"], ["--data.decode", "device"]])
def test_nothing_is_measured_where_the_loader_decodes_for_no_network(options: list[str], tiny_shards: Path) -> None:
    assert not [*check_speed(*made(tiny_shards, *options), Processes(1, 1))]
