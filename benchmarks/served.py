"""A server of the page, `xmr serve`, in a process of its own for those who measure it."""

from __future__ import annotations

import http.client
import io
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmr_e2e.errors import XmrError

TIMEOUT_S = 60.0
"""for an answer"""
START_S = 120.0
"""for the server's model to be loaded"""
QUESTION = "/api/search?text=one+more+picture&k=5"


@contextmanager
def serving(run: Path, index: Path | None = None) -> Iterator[tuple[int, int]]:
    """The port and the process's number of `xmr serve RUN`, with the run's index or another."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "xmr_e2e.cli", "serve", str(run), "--port", "0"]
        command += ["--index", str(index)] if index else []
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
            try:
                deadline = time.monotonic() + START_S
                while not (found := re.search(rb"serving at http://127\.0\.0\.1:(\d+)/", _written(log))):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise XmrError(f"{run} cannot be served: {_written(log).decode()}")
                    time.sleep(0.1)
                yield int(found[1]), process.pid
                if process.poll() is not None:
                    raise XmrError(f"the server has ended: {_written(log).decode()[-2000:]}")
            finally:
                process.kill()


def _written(log: io.BufferedRandom) -> bytes:
    log.seek(0)
    return log.read()


def allow_files(count: int) -> None:
    """Let this process, and those that it starts, have so many open; 1,024 are usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 100
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == -1 else min(wanted, hard), hard))


def ask(port: int) -> tuple[bool, float]:
    """True if a sentence was answered, and the seconds that it took, on a connection of its own."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", QUESTION)
        answered = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        answered = False
    finally:
        connection.close()
    return answered, time.perf_counter() - start
