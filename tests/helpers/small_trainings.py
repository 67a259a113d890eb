"""Small trainings that are to fail, to stop and to go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.helpers.forked import DRCL, Training, result, tiny, trainings
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.training.trainer import Trainer

METHOD = Dscmr(image=DRCL.image, text=DRCL.text, hidden=16, dim=8)
"""one stage; the miniature has 5 steps in each of two epochs"""
Result = tuple[list[dict[str, Any]], dict[str, Any]]
small = partial(tiny, method=METHOD, checkpoint_steps=2)


def go_on(experiment: Any, folder: Path, *, processes: int = 1) -> Result:
    """Train to the end, from where it stands; what comes of it."""
    with trainings(experiment, folder, processes=processes) as ranks:
        assert [rank.end() for rank in ranks] == [0] * processes, ranks[0].printed
    return result(experiment.train.runs / "tiny" / "run")


def before_step(number: int, action: Callable[[], object], rank: int = 0) -> None:
    """In a training's process: do something just before a step, counted over the epochs from 1."""
    step = Trainer._step

    def prepared(self: Trainer, *arguments: Any) -> None:
        if self._global_step + 1 == number and self.accelerator.process_index == rank:
            action()
        step(self, *arguments)

    setattr(Trainer, "_step", prepared)  # noqa: B010


def failed(training: Training) -> str:
    """The words of a training that ended with status 2, which said nothing else."""
    assert training.end() == 2, training.log.read_text()
    assert "Traceback" not in training.printed
    return training.printed.split("error: ", 1)[1]
