"""The cost of a training: its time and memory, from the records that it leaves."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from xmr_e2e.devices import uses_gpu
from xmr_e2e.evaluation.result import TrainingCost

SECONDS, MEMORY = "seconds", "peak_memory"
"""keys of records: since this start of the training; bytes until then"""
LARGEST = 1e15
"""of both, at most: more is no training's"""


def cost_of(records: Iterable[Mapping[str, Any]]) -> TrainingCost | None:
    """The cost of all starts of a training together, from the lines of metrics.jsonl; None where they are of a version
    that did not write it. What came after the last record of a start that was killed is not in it."""
    seconds = last = memory = 0.0
    is_known = False
    for record in records:
        at = _number(record, SECONDS)
        if at is not None:
            is_known = True
            seconds += at - last if at >= last else at  # a new start counts from 0
            last = at
            memory = max(memory, _number(record, MEMORY) or 0)
    return TrainingCost(round(seconds, 1), int(memory)) if is_known else None


def _number(record: Mapping[str, Any], name: str) -> float | None:
    """A number of a record that others may have written."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        return None
    return float(value)


class CostMeter:
    """The time and memory of one start of a training."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        if uses_gpu():
            torch.cuda.reset_peak_memory_stats()

    def record(self) -> dict[str, float | int]:
        """For a record of metrics.jsonl."""
        return {SECONDS: round(time.perf_counter() - self._began, 2), MEMORY: peak_memory()}


def peak_memory() -> int:
    """Bytes that this process has had at most: of its GPU, or of the host where it uses none."""
    if uses_gpu():
        return torch.cuda.max_memory_reserved()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
