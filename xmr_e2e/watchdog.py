"""The activity of each process of a training, so that one that stands still or has died can be named.

Each process writes every few seconds what it is at into a small file of the run folder. When its own main thread has
stood still for too long, it reads everybody's files, says who keeps the others waiting and in what, and ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from xmr_e2e.console import console
from xmr_e2e.errors import XmrError
from xmr_e2e.received import parse, read_bytes

STATUS = 2
"""the exit status after standing still"""
_current: Watchdog | None = None


def report_activity(activity: str) -> None:
    """Say what this process begins to do, in words for a person; nothing happens where nobody watches."""
    if _current is not None:
        _current.report_activity(activity)


@dataclass(frozen=True)
class Heartbeat:
    """The last report of a process on itself."""

    rank: int
    host: str
    pid: int
    activity: str
    activities: int
    """number of activities begun"""
    standing: float
    """seconds since then"""
    count: int
    """of its beats: it lives as long as this rises"""
    verdict: str = ""
    """cause of its end, past or coming: its own error, or whom it has found to be dead or to keep the others waiting"""

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"


class Watchdog:
    """Watches over this process while it is entered.

    Args:
        folder: for the beats of all processes; all of them see it.
        limit: seconds for which the main thread may stand still.
    """

    def __init__(self, folder: Path, rank: int, world_size: int, limit: float) -> None:
        self._folder = folder
        self._rank = rank
        self._world_size = world_size
        self._limit = limit
        self._unfinished = folder / f"rank-{rank:05d}.part"
        # Thousands of processes on one file system: the more there are, the less often each writes.
        self._pause = min(max(0.5, world_size / 64), limit / 4)
        self._activity, self._activities, self._since, self._count = "starting", 0, time.monotonic(), 0
        self._verdict = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        global _current
        _current = self
        self._folder.mkdir(parents=True, exist_ok=True)
        self._unfinished.unlink(missing_ok=True)  # a link, in a run of somebody else's, would be written through
        self._beat()  # in place of what an earlier start may have left
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _current
        _current = None
        self._over.set()
        self._thread.join()
        if kind is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        self._verdict = self._verdict or f"{self._own()} has ended with an error: {str(error) or kind.__name__}"
        self._beat()

    def report_activity(self, activity: str) -> None:
        """The main thread begins something."""
        self._activity, self._activities, self._since = activity, self._activities + 1, time.monotonic()

    def diagnose(self) -> str:
        """`_diagnosis`, also for the others, which may ask when this process is gone."""
        self._verdict = self._diagnosis()
        self._beat()
        return self._verdict

    def _diagnosis(self) -> str:
        """The process that has died, stands still as a whole, or keeps the others waiting, and its activity. It looks
        twice, and takes seconds for it."""
        before = self._beats()
        for _ in range(3):
            time.sleep(self._pause)
            if threading.current_thread() is self._thread:
                self._beat()  # for the others, which look at the same time
        after = self._beats()
        verdicts = [beat.verdict for beat in after.values() if beat.verdict]
        if verdicts:  # whoever has found it may be gone by now, and is not to blame
            return verdicts[0]
        dead = [beat for rank, beat in after.items() if not _lives(beat, before.get(rank))]
        if dead:
            return "; ".join(f"{beat} has died (killed? out of memory?); last seen {beat.activity}" for beat in dead)
        silent = [beat for rank, beat in after.items() if rank in before and beat.count == before[rank].count]
        if silent:
            return "; ".join(f"{beat} gives no sign of life (stopped?); last seen {beat.activity}" for beat in silent)
        behind = min(beat.activities for beat in after.values())
        return "; ".join(
            f"{beat} has been {beat.activity} for {beat.standing:.0f} s"
            for beat in after.values()
            if beat.activities == behind
        )

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            self._beat()
            if time.monotonic() - self._since > self._limit:
                self._give_up()

    def _own(self) -> Heartbeat:
        standing = time.monotonic() - self._since
        host, pid = socket.gethostname(), os.getpid()
        return Heartbeat(self._rank, host, pid, self._activity, self._activities, standing, self._count, self._verdict)

    def _beat(self) -> None:
        self._count += 1
        beat = self._own()
        try:
            self._unfinished.write_text(json.dumps(asdict(beat)))
            os.replace(self._unfinished, self._unfinished.with_suffix(".json"))
        except OSError:
            return  # a full disk shall not end a training that has nothing else to write at the moment

    def _beats(self) -> dict[int, Heartbeat]:
        found = {}
        for path in sorted(self._folder.glob("rank-*.json")):
            with suppress(XmrError):  # what somebody else's run may hold
                beat = parse(Heartbeat, read_bytes(path), str(path))
                found[beat.rank] = beat
        return {rank: beat for rank, beat in found.items() if rank < self._world_size}

    def _give_up(self) -> None:
        """Name the culprit and end this process: its main thread cannot."""
        console.print(
            f"error: nothing has happened for {self._limit:.0f} s (--train.timeout-minutes): {self.diagnose()}. The "
            f"last whole checkpoint is in {self._folder.parent}",
            style="red", highlight=False, soft_wrap=True,
        )  # fmt: skip
        faulthandler.dump_traceback(sys.stderr)
        os._exit(STATUS)


def _lives(beat: Heartbeat, earlier: Heartbeat | None) -> bool:
    """True where it goes on beating; on this host, where its process is there, which needs no waiting."""
    if beat.host == socket.gethostname():
        try:
            return psutil.Process(beat.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
    return earlier is None or beat.count > earlier.count
