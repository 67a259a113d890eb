"""The steps of a training: how many there are, and which of them its progress stands before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmr_e2e.data.loader import Loader
from xmr_e2e.methods.stages import Stage, StepContext
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.runs.experiment import Train


class StepCount:
    """The steps of all stages."""

    def __init__(self, stages: Sequence[Stage], loaders: Sequence[Loader], train: Train) -> None:
        """loaders: of the training split, for each stage; looked at when they are asked for."""
        self._stages, self._loaders, self._train = stages, loaders, train

    def stage(self, progress: TrainingProgress) -> Stage:
        """The stage in which the training stands."""
        return self._stages[progress.stage]

    @property
    def all(self) -> int:
        """Of the whole training."""
        return sum(map(self._of_stage, range(len(self._loaders))))

    def done(self, progress: TrainingProgress) -> int:
        """Of the whole training, those that are done; the number of the next one is one more."""
        before = sum(self._of_stage(stage) for stage in range(progress.stage))
        return before if progress.stage == len(self._loaders) else before + self.done_in_stage(progress)

    def done_in_stage(self, progress: TrainingProgress) -> int:
        """Of the stage, those that are done."""
        return progress.epoch * self._loaders[progress.stage].steps + progress.step

    def title(self, progress: TrainingProgress) -> str:
        """The epoch, and the stage where there are several, in words for a person."""
        name = f"{self.stage(progress).name}, " if len(self._stages) > 1 else ""
        return f"{name}epoch {progress.epoch + 1}/{self._train.epochs}"

    def context(self, progress: TrainingProgress) -> StepContext:
        """The position of the next step, for schedules and for an objective's random numbers."""
        share = self.done_in_stage(progress) / (self._loaders[progress.stage].steps * self._train.epochs)
        seed = np.random.SeedSequence((self._train.seed, self.done(progress))).generate_state(1, np.uint64)
        return StepContext(self.stage(progress).name, progress.epoch, share, int(seed[0]))

    def _of_stage(self, stage: int) -> int:
        return 0 if self._stages[stage].closed_form else self._loaders[stage].steps * self._train.epochs
