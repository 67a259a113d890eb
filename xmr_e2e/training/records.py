"""The records of a training: what is written of each step and epoch, and what a person is told."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from xmr_e2e.data.batch_dataset import BatchDataset
from xmr_e2e.runs.checkpoint import TrainingProgress
from xmr_e2e.runs.experiment import Train
from xmr_e2e.runs.metrics_log import MetricsLog
from xmr_e2e.training.display import Pace, Throughput
from xmr_e2e.training.outcome import PendingStep
from xmr_e2e.training.selection import Choice, validation_split
from xmr_e2e.training.step_count import StepCount

logger = logging.getLogger(__name__)

NAMED = 8
"""of a step's samples, in a message"""


class TrainingRecords:
    """The records that the main process writes, and the words of all of them."""

    def __init__(self, log: MetricsLog, steps: StepCount, train: Train, *, is_main: bool) -> None:
        self._log, self._steps, self._train, self._is_main = log, steps, train, is_main

    def begin(self, progress: TrainingProgress) -> None:
        """The steps begin now, from here."""
        self._pace = Pace(self._steps.done(progress))

    def left(self, progress: TrainingProgress) -> str:
        """The time that the training will take to its end, in words."""
        return self._pace.left(self._steps.done(progress), self._steps.all)

    def status(self, progress: TrainingProgress, throughput: Throughput) -> str:
        """The words beside the bar of an epoch."""
        best = "" if progress.best is None else f"best {abs(progress.best):.4f}, "
        return f"{self.left(progress)}, {self._log.last_loss}{best}{throughput}"

    def of_step(self, progress: TrainingProgress, rates: Any, throughput: Throughput) -> dict[str, Any]:
        """The record of the step that was just begun, as far as the host knows it."""
        return {
            **self._place(progress),
            "lr": rates,
            "images_per_second": round(throughput.samples_per_second, 2),
            "data_wait": round(throughput.data_wait, 4),
        }

    def taken(self, step: PendingStep, batches: BatchDataset) -> None:
        """Record a step whose outcome is there."""
        if not self._is_main:
            return
        samples = hashlib.sha256(" ".join(_keys(step.samples.tolist(), batches)).encode()).hexdigest()[:16]
        self._log.step(step.record | {"samples": samples, "loss": step.outcome.terms})

    def left_out(self, step: PendingStep, batches: BatchDataset) -> None:
        """Record and tell a step that has moved nothing."""
        error = step.outcome.error()
        logger.warning("%s: left out, NaN or infinite values in %s", self.place_of(step, batches), error.what)
        if self._is_main:
            record = {name: step.record[name] for name in ("step", "stage", "epoch")}
            self._log.skipped(record | {"skipped": error.what, "keys": _bad_keys(step, batches)})

    def place_of(self, step: PendingStep, batches: BatchDataset) -> str:
        """Epoch, step and samples of one that was refused, in words."""
        keys = _bad_keys(step, batches)
        shown = ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
        return f"{self._steps.title(step.begun)}, step {step.begun.step + 1}, samples {shown}"

    def kept_after(self, step: PendingStep, chosen: str) -> None:
        """Record that the weights after a step were kept."""
        self._log.validation({name: step.record[name] for name in ("step", "stage")} | {"selected": chosen})

    def validated(self, progress: TrainingProgress, scores: Mapping[str, float], choice: Choice) -> None:
        """Record and tell the end of an epoch."""
        where = {"split": "test"} if validation_split(self._train) == "test" else {}
        selected = {} if choice.kept is None else {"selected": choice.kept}
        self._log.validation({**self._place(progress), **where, "val": dict(scores), **selected})
        shown = f"{choice.shown} (kept)" if choice.kept is not None else choice.shown
        told = f"{self._log.epoch_loss()}{shown}, {self.left(progress)}"
        logger.info("%s: %s", self._steps.title(progress), told)

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        self._log.close()

    def _place(self, progress: TrainingProgress) -> dict[str, Any]:
        stage = self._steps.stage(progress).name
        return {"step": self._steps.done(progress), "stage": stage, "epoch": progress.epoch + 1}


def _keys(positions: Sequence[int], batches: BatchDataset) -> list[str]:
    return [batches.reader.key(position) for position in positions]


def _bad_keys(step: PendingStep, batches: BatchDataset) -> list[str]:
    """Keys of the samples for which a step was refused; of all where that cannot be told."""
    rows = step.outcome.error().rows
    bad = step.samples if rows is None else step.samples[rows.cpu()]
    return _keys(bad.tolist(), batches)
