"""The outcome of a step, on its way from the device to the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from xmr_e2e.methods.finite import FiniteChecks, NotFinite
from xmr_e2e.runs.checkpoint import TrainingProgress


class Outcome:
    """The loss terms of a step, and whether it was refused.

    They begin to cross to the host at once; the first one to ask waits until they are there, which is while the device
    works on what came after.
    """

    def __init__(self, terms: Mapping[str, Tensor], checks: FiniteChecks, refused: Tensor) -> None:
        """refused: a boolean of no dimension on the device: the step has changed nothing."""
        self._names, self._checks = list(terms), checks
        values = torch.stack([refused, *terms.values()]).detach()
        self._values = values.to("cpu", non_blocking=True)
        self._arrival = torch.cuda.Event(blocking=True) if values.device.type == "cuda" else None
        if self._arrival is not None:
            self._arrival.record()

    @property
    def is_refused(self) -> bool:
        return bool(self._found[0])

    @property
    def terms(self) -> dict[str, float]:
        """The loss terms by name."""
        return dict(zip(self._names, self._found[1:]))

    def error(self) -> NotFinite:
        """Of a step that was refused: the first of its values that was not finite."""
        return self._checks.error()

    @cached_property
    def _found(self) -> list[float]:
        if self._arrival is not None:
            self._arrival.synchronize()
        found: list[float] = self._values.tolist()
        return found


@dataclass(frozen=True)
class PendingStep:
    """A step that the device may still be working on."""

    outcome: Outcome
    samples: Tensor
    """(n,) int64, positions of the global batch's samples, on the host"""
    begun: TrainingProgress
    """from where it was taken"""
    record: dict[str, Any]
    """what the host knows of it"""
