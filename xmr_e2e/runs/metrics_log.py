"""`metrics.jsonl` and TensorBoard events: a record per step and one per validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically
from xmr_e2e.runs.cost import CostMeter
from xmr_e2e.runs.run import Run

FLUSH_EVERY = 20


class MetricsLog:
    """Appends records, those of `FLUSH_EVERY` steps at once; on resume, what was logged after the checkpoint is taken
    back first, for it happens again."""

    def __init__(self, run: Run, *, first_step: int, validated: bool, enabled: bool) -> None:
        self._run = run
        self._enabled = enabled
        self._pending: list[dict[str, Any]] = []
        self._cost = CostMeter()
        self._losses: list[float] = []
        """totals of the epoch's steps that have been written"""
        if enabled:
            # A checkpoint after a step comes before the validation that may follow it; one at an epoch's begin after.
            last_kept = {True: first_step if validated else first_step - 1, False: first_step}
            kept = [record for record in run.records() if record["step"] <= last_kept["val" in record]]
            write_atomically(run.metrics, "".join(json.dumps(record) + "\n" for record in kept).encode())
            from torch.utils.tensorboard import SummaryWriter  # seconds, which a list of runs need not wait for

            self._board = SummaryWriter(str(run.folder), purge_step=first_step + 1)

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
            self._board.close()

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        cost = self._cost.record()
        try:
            with open(self._run.metrics, "a") as stream:
                stream.writelines(json.dumps(record | cost) + "\n" for record in records)
        except OSError as error:
            raise XmrError(f"{self._run.metrics}: cannot be written: {error.strerror}") from error
        for record in records:
            for group in ("loss", "val"):
                for name, value in record.get(group, {}).items():
                    self._board.add_scalar(f"{group}/{name}", value, record["step"])
