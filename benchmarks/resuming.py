"""A training with a recurrent tower that is stopped and gone on with, beside one that was not stopped."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import seconds
from benchmarks.recipes import on_photographs
from benchmarks.rows import Row
from benchmarks.training import TimedTrainer, start_kind, start_trainer
from xmr_e2e.data.config import Data
from xmr_e2e.methods.dscmr import Dscmr
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run
from xmr_e2e.towers.text import BiLstmCnn
from xmr_e2e.training.processes import make_accelerator
from xmr_e2e.training.signals import Stopped

BATCH, STEPS, STOP = 20, 6, 4
"""pictures of a step, steps of the training, and those after which it is stopped"""


class _Stopping(TimedTrainer):
    """A trainer that is asked to stop in the middle."""

    saved_s = 0.0

    def _synchronize(self) -> None:
        super()._synchronize()
        if self._global_step == STOP:
            self._settle()
            self.records.flush()
            self.saved_s = seconds(lambda: self._save(self.progress))
            raise Stopped


def resume_rows(photographs: Path, data: Data | None = None) -> list[Row]:
    """The time of the checkpoint and of going on with it, and how far the losses are from those without a stop.

    data: of the training, in place of the recipe's but for the shards.
    """
    whole = on_photographs("dscmr_flickr8k", photographs, STEPS, batch_size=BATCH, data=data)
    assert isinstance(whole.method, Dscmr)
    experiment = replace(whole, name="resumed", method=replace(whole.method, text=BiLstmCnn()))
    start_trainer(experiment).fit()
    wanted = _losses(experiment)
    stopped = start_kind(_Stopping, experiment)
    with suppress(Stopped):
        stopped.fit()
    going_on: list[TimedTrainer] = []
    took = seconds(lambda: going_on.append(_again(experiment)))
    going_on[0].fit()
    found = _losses(experiment)
    worst = max(abs(a - b) for a, b in zip(found, wanted, strict=True))
    return [
        Row("checkpoint, recurrent text tower", f"{stopped.saved_s:.2f} s", f"opened again in {took:.2f} s"),
        Row(f"stopped after step {STOP}, gone on to step {STEPS}", f"losses differ by {worst:.1g}", "at most"),
    ]


def _again(experiment: Experiment) -> TimedTrainer:
    """A trainer that goes on where the run stands."""
    run = Run(experiment.train.runs / experiment.name)
    return TimedTrainer(experiment, run, make_accelerator(experiment.train))


def _losses(experiment: Experiment) -> list[float]:
    records = Run(experiment.train.runs / experiment.name).records()
    return [record["loss"]["total"] for record in records if "loss" in record]
