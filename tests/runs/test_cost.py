"""Time and memory of a training, from its records."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xmr_e2e.evaluation.result import TrainingCost
from xmr_e2e.runs.cost import MEMORY, SECONDS, CostMeter, cost_of


def records(*values: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"step": step, SECONDS: seconds, MEMORY: memory} for step, (seconds, memory) in enumerate(values)]


def test_the_times_of_all_starts_add_up() -> None:
    # Of three starts, 20 + 7 + 5 seconds.
    found = cost_of(records((10.0, 100), (20.0, 300), (3.0, 200), (7.0, 200), (5.0, 100)))
    assert found == TrainingCost(32.0, 300)


def test_records_of_earlier_versions_say_nothing() -> None:
    assert cost_of([{"step": 1}, {"step": 2, "val": {}}]) is None


@pytest.mark.parametrize("odd", ["1", None, [1], {"a": 1}, True, float("nan"), float("inf"), -1, 1e300])
def test_what_is_no_number_of_seconds_or_bytes_does_not_count(odd: Any) -> None:
    assert cost_of(records((4.0, 50), (odd, 10**9), (6.0, odd))) == TrainingCost(6.0, 50)


def test_a_process_that_takes_memory_shows_it() -> None:
    meter = CostMeter()
    before = meter.record()
    block = torch.ones(60_000_000)  # 240 MB
    after = meter.record()
    grown = after[MEMORY] - before[MEMORY]
    assert after[SECONDS] >= before[SECONDS] and len(block) and 0 <= grown < 1e9
    assert after[MEMORY] > 240e6
