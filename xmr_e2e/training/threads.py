"""The threads of a training's process: its share of the cores, whoever started it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import psutil
import torch

from xmr_e2e.cgroups import available_cores
from xmr_e2e.training.launcher import asked_of_accelerate

OF_LAUNCHERS = "1"
"""what `accelerate launch` and torchrun set OMP_NUM_THREADS to where nobody has set it"""


def share_cores() -> None:
    """Give this process as many of torch's threads as its share of the cores, or as OMP_NUM_THREADS has it where a
    person has set that."""
    if (threads := threads_of_process(os.environ, available_cores())) is not None:
        torch.set_num_threads(threads)


def threads_of_process(environment: Mapping[str, str], available: int) -> int | None:
    """The number of threads; None where OMP_NUM_THREADS is set, and OpenMP follows it by itself.

    Args:
        environment: of this process; LOCAL_WORLD_SIZE of them share the cores.
        available: cores that it may use.
    """
    said = environment.get("OMP_NUM_THREADS", "")
    if said and (said != OF_LAUNCHERS or not _is_of_launcher(environment)):
        return None
    return max(1, available // int(environment.get("LOCAL_WORLD_SIZE", "1")))


def _is_of_launcher(environment: Mapping[str, str]) -> bool:
    """True where OMP_NUM_THREADS is the default of a launcher, which neither had it in its own environment nor was
    asked for threads."""
    launch = asked_of_accelerate()
    if launch is None and "TORCHELASTIC_RUN_ID" not in environment:
        return False
    asked = getattr(launch, "num_cpu_threads_per_process", None)
    return asked is None and "OMP_NUM_THREADS" not in _environment_of_parent()


def _environment_of_parent() -> Mapping[str, str]:
    """The environment with which the parent was started; empty where another user's is not shown."""
    try:
        parent = psutil.Process().parent()
        return parent.environ() if parent else {}
    except psutil.Error:
        return {}
