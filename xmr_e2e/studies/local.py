"""The runs of a study as processes of this machine, several at a time where memory allows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from types import FrameType
from typing import IO

import psutil

from xmr_e2e.cgroups import available_cores
from xmr_e2e.console import Console
from xmr_e2e.devices import gpu_count
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.signal_handlers import STOPPED, handled
from xmr_e2e.studies.plan import Plan, PlannedRun

POLL_SECONDS = 0.5
ROOM = 1.2
"""times the memory of the largest run so far, which has to be free before another one starts beside it"""
LOG_TAIL = 16_384
"""bytes at a log's end, in which the reason of a failure is looked for"""


@dataclass(frozen=True)
class Outcome:
    """The end of a run's process."""

    run: PlannedRun
    status: int
    seconds: float
    log: Path
    reason: str = ""
    """of a failure, in a line"""

    @property
    def has_failed(self) -> bool:
        return self.status not in (0, STOPPED)


@dataclass
class _Process:
    run: PlannedRun
    process: subprocess.Popen[bytes]
    log: Path
    slot: int
    began: float = field(default_factory=time.monotonic)
    memory: int = 0
    """bytes that it and what it started had at most, as far as seen"""

    def look_at_memory(self) -> None:
        with suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            sizes = []
            for each in (root, *root.children(recursive=True)):
                with suppress(psutil.Error):
                    sizes.append(each.memory_info().rss)
            self.memory = max(self.memory, sum(sizes))


def command_of(run: PlannedRun, file: Path, folder: Path, launcher: Sequence[str] = ()) -> list[str]:
    """The command that trains and measures a run, without a report of its own; repeated, it goes on with what it
    began."""
    start = [*(launcher or (sys.executable,)), str(file), "--run", run.row.key]
    where = ("--train.runs", str(folder), "--data.shards", str(run.row.experiment.data.shards))
    return [*start, "--train.seed", str(run.seed), "--train.name", run.folder.name, *where, "--train.no-report"]


def run_locally(
    plan: Plan, file: Path, *, jobs: int | None = None, launcher: Sequence[str] = ()
) -> tuple[list[Outcome], bool]:
    """Train and measure what a plan has to do, in its order; go on past runs that fail.

    SIGINT, SIGTERM and SIGUSR1 stop the runs, which save checkpoints.

    Args:
        file: the study's.
        jobs: runs at a time, at most; by default one on each GPU, or one.
        launcher: what starts a run, in place of python, such as accelerate launch.

    Returns:
        The ends of the runs, and whether all was done that was to do, without having been stopped.
    """
    return _Local(plan, file, jobs, launcher).run()


class _Local:
    def __init__(self, plan: Plan, file: Path, jobs: int | None, launcher: Sequence[str]) -> None:
        self._plan, self._file, self._launcher = plan, file, launcher
        self._gpus = 0 if launcher else gpu_count()
        self._jobs = jobs or max(1, self._gpus)
        self._waiting = deque(run for run in plan.runs if run.is_to_do)
        self._active: list[_Process] = []
        self._outcomes: list[Outcome] = []
        self._largest = 0
        self._is_stopped = False
        self._output = Console(highlight=False, soft_wrap=True)
        self._count = len(self._waiting)

    def run(self) -> tuple[list[Outcome], bool]:
        with handled(self._stop, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            try:
                while self._active or (self._waiting and not self._is_stopped):
                    self._start_what_fits()
                    time.sleep(POLL_SECONDS)
                    self._collect()
            finally:
                self._end_all()
        return self._outcomes, not self._is_stopped

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self._is_stopped:
            self._output.print(f"stopping: {len(self._active)} runs save a checkpoint")
        self._is_stopped = True
        self._end_all()

    def _end_all(self) -> None:
        for each in self._active:
            with suppress(ProcessLookupError):
                each.process.terminate()

    def _start_what_fits(self) -> None:
        while self._waiting and not self._is_stopped and len(self._active) < self._jobs and self._has_room():
            self._start(self._waiting.popleft())

    def _has_room(self) -> bool:
        """Beside others, a run starts once one has shown what it takes, and where that is free."""
        if not self._active:
            return True
        known = max(self._largest, *(each.memory for each in self._active))
        is_known = self._largest > 0 or self._gpus > len(self._active)
        return is_known and psutil.virtual_memory().available > ROOM * known

    def _start(self, run: PlannedRun) -> None:
        log = self._plan.folder / "studies" / self._plan.study.name / f"{run.row.recipe}-{run.folder.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(self._jobs)) - {each.slot for each in self._active})
        command = command_of(run, self._file, self._plan.folder, self._launcher)
        with open(log, "ab") as stream:
            process = self._popen(command, slot, stream)
        self._active.append(_Process(run, process, log, slot))
        verb = "goes on" if run.state == "begun" else "starts"
        number = len(self._outcomes) + len(self._active)
        self._say(f"[{number}/{self._count}] {run} {verb}{self._left()}; log: {log}")

    def _popen(self, command: Sequence[str], slot: int, stream: IO[bytes]) -> subprocess.Popen[bytes]:
        """Out of this terminal's group: its Ctrl-C comes to this process, which tells the runs."""
        environment = dict(os.environ)
        if self._jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // self._jobs)))
        if self._gpus:
            visible = environment.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(self._gpus)))).split(",")
            environment["CUDA_VISIBLE_DEVICES"] = visible[slot % self._gpus]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )

    def _collect(self) -> None:
        for each in list(self._active):
            each.look_at_memory()
            status = each.process.poll()
            if status is None:
                continue
            self._active.remove(each)
            self._largest = max(self._largest, each.memory)
            seconds = time.monotonic() - each.began
            outcome = Outcome(each.run, status, seconds, each.log, reason_in(each.log) if status else "")
            self._outcomes.append(outcome)
            self._say(f"{each.run} {self._describe(outcome)}{self._left()}")

    def _describe(self, outcome: Outcome) -> str:
        if outcome.status == STOPPED:
            return "is stopped, with a checkpoint"
        took = f"after {timedelta(seconds=round(outcome.seconds))}"
        return f"FAILED {took}: {outcome.reason} ({outcome.log})" if outcome.has_failed else f"is measured {took}"

    def _left(self) -> str:
        """The time to the end, from that of the runs that have ended."""
        took = [each.seconds for each in self._outcomes if each.status == 0]
        left = len(self._waiting) + len(self._active)
        if not took or not left:
            return ""
        seconds = median(took) * left / min(self._jobs, left)
        return f", about {timedelta(seconds=round(seconds))} left"

    def _say(self, line: str) -> None:
        self._output.print(one_line(line))


def reason_in(log: Path) -> str:
    """The reason of a failure, from its log: the error that was said, or the last line."""
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return str(error.strerror)
    said = [line for line in lines if line.startswith("error: ")]
    return (said or lines or ["it said nothing"])[-1].removeprefix("error: ")


def report_outcomes(outcomes: Iterable[Outcome]) -> int:
    """Name the runs that failed; return how many."""
    failed = [outcome for outcome in outcomes if outcome.has_failed]
    for outcome in failed:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            one_line(f"failed: {outcome.run}: {outcome.reason} ({outcome.log})"), style="red"
        )
    return len(failed)


def check_jobs(jobs: int | None) -> None:
    """Raise XmrError for a number of runs at a time that is none."""
    if jobs is not None and jobs < 1:
        raise XmrError(f"--jobs must be at least 1, not {jobs}")
