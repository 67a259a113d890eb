"""`xmr doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro


def doctor_command(
    recipe: Annotated[Path | None, tyro.conf.arg(metavar="[RECIPE [OPTIONS]]")] = None,
    /,
    *,
    options: tyro.conf.Suppress[Sequence[str]] = (),
) -> int:
    """Look at this machine, and dry-run a recipe on it, before hours are spent. No GPU is needed; it takes seconds.

    The machine: GPUs, cores, memory, disks, libraries, and whether processes can talk to each other. The recipe: its
    shards and weights, a step of each stage on two samples, and the memory that the training will take. Exits with 1 if
    there are problems. Under a launcher (torchrun -m xmr_e2e.cli doctor RECIPE) all processes take part.

    Args:
        recipe: such as recipes/alscor_pascal.py, and after it the options with which it is going to be trained
    """
    from xmr_e2e.doctor.examine import examine

    return examine(recipe, options)
