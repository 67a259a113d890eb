"""The parts of a training that a method asks for, and the position of a step in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from xmr_e2e.methods.finite import FiniteChecks


@dataclass(frozen=True)
class StepContext:
    """The position of a step in a training: all that schedules and an objective's random numbers depend on."""

    stage: str = ""
    """name of the stage"""
    epoch: int = 0
    """of the stage, from 0"""
    progress: float = 0.0
    """share of the stage that is done, in [0, 1]"""
    seed: int = 0
    """seed of the objective's random numbers; the same on every rank"""
    checks: FiniteChecks | None = field(default=None, compare=False)
    """what is to be looked at on the device, for a host that asks later; None where it is to be waited for"""


@dataclass(frozen=True)
class Stage:
    """A part of a training with its own samples, parameters and optimiser; most methods have one."""

    name: str
    modalities: tuple[str, ...]
    """samples take part that have all of these"""
    prefixes: tuple[str, ...] = ()
    """prefixes of the names of the parameters that are trained; all are where it is empty"""
    select: Literal["metric", "loss", "last"] = "metric"
    """criterion of the epoch to keep: the validation figure that the training names, the validation loss, or none"""
    closed_form: bool = False
    """fitted to the embeddings of the whole training split at once (`Method.fit`), not step by step"""
    is_start: bool = False
    """ahead of the method's own: a tower learns in it that stands still afterwards"""
    without: tuple[str, ...] = ()
    """prefixes of the names of the parameters that stand still in any case, since no term of the loss reaches them"""

    def is_trained(self, name: str) -> bool:
        """True for a parameter of this name that is trained in the stage."""
        is_chosen = not self.prefixes or any(has_prefix(name, prefix) for prefix in self.prefixes)
        return is_chosen and not any(has_prefix(name, prefix) for prefix in self.without)


def has_prefix(name: str, prefix: str) -> bool:
    """True where a parameter's dotted name is the prefix or begins with it and a dot; "" is a prefix of all names."""
    return not prefix or name == prefix or name.startswith(f"{prefix}.")
