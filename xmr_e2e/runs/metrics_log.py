"""`metrics.jsonl` and the trackers: a record per step and one per validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.runs.cost import CostMeter
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.run_tracker import RunTracker

FLUSH_EVERY = 20


class MetricsLog:
    """Appends records, those of `FLUSH_EVERY` steps at once; on resume, what was logged after the checkpoint is taken
    back first, for it happens again.

    Args:
        trackers: those that get the records, too; looked at when there are some, so that they can be opened later.
    """

    def __init__(
        self, run: Run, *, first_step: int, validated: bool, enabled: bool, trackers: Sequence[RunTracker] = ()
    ) -> None:
        self._run = run
        self._enabled = enabled
        self._trackers = trackers
        self._pending: list[dict[str, Any]] = []
        self._cost = CostMeter()
        self._losses: list[float] = []
        """totals of the epoch's steps that have been written"""
        if enabled:
            # A checkpoint after a step comes before the validation that may follow it; one at an epoch's begin after.
            last_kept = {True: first_step if validated else first_step - 1, False: first_step}
            kept = [record for record in run.records() if record["step"] <= last_kept["val" in record]]
            write_atomically(run.metrics, "".join(json.dumps(record) + "\n" for record in kept).encode())

    def step(self, record: dict[str, Any]) -> None:
        """A step: `record` holds "step" and, under "loss", its terms by name."""
        if self._enabled:
            self._pending.append(record)
            if len(self._pending) >= FLUSH_EVERY:
                self.flush()

    def skipped(self, record: dict[str, Any]) -> None:
        """A step that moved nothing: `record` holds "step" and why under "skipped"."""
        if self._enabled:
            self.flush()
            self._write([record])

    def validation(self, record: dict[str, Any]) -> None:
        """A validation: `record` holds "step", "epoch" and the scores under "val"."""
        if self._enabled:
            self.flush()
            self._write([record])

    def flush(self) -> None:
        if self._pending:
            records, self._pending = self._pending, []
            self._losses += [record["loss"]["total"] for record in records]
            self._write(records)

    @property
    def last_loss(self) -> str:
        """The loss of the last step that was written, in words for a person."""
        return f"loss {self._losses[-1]:.4f}, " if self._losses else ""

    def epoch_loss(self) -> str:
        """The mean loss of the steps since this was last asked, in words for a person; empty where none was taken."""
        self.flush()
        losses, self._losses = self._losses, []
        return f"loss {sum(losses) / len(losses):.4f}, " if losses else ""

    def close(self) -> None:
        if self._enabled:
            self.flush()

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        cost = self._cost.record()
        whole = [record | cost for record in records]
        try:
            with open(self._run.metrics, "a") as stream:
                stream.writelines(json.dumps(record) + "\n" for record in whole)
        except OSError as error:
            raise XmrError(f"{self._run.metrics}: cannot be written: {error.strerror}") from error
        for tracker in self._trackers:
            tracker.log_records(whole)
