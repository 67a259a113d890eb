"""The server of the page with many clients at once, each of which asks sentence after sentence.

    python -m benchmarks.crowd RUN
    python -m benchmarks.crowd RUN --clients 50 --seconds 10
    python -m benchmarks.crowd RUN --items 1000000

RUN is a run folder with an index. On loopback, for a minute, 200 clients ask a sentence, read the answer and ask again;
with --items, of an index of so many drawn vectors in its place, whose graph for a million takes half an hour.
Shown, and printed as one line of JSON: how many questions were answered, how many in a second, how long the answers
took, and the server's memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.measure import memory_mb
from benchmarks.search_engines import MODALITY, begin
from benchmarks.searching import built, drawn
from benchmarks.served import QUESTION, TIMEOUT_S, allow_files, serving
from xmr_e2e.console import console, report_errors
from xmr_e2e.search.index import DEFAULT
from xmr_e2e.search.store import NAME, Store

CLIENTS = 200
REQUEST = f"GET {QUESTION} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


@dataclass(frozen=True)
class Crowd:
    """The answers that all clients got."""

    clients: int
    asked: int
    answered: int
    per_second: float
    """answers"""
    median_s: float
    """of the answers"""
    p99_s: float
    longest_s: float
    """answered or not"""
    peak_mb: float
    """of the server's memory (VmHWM), in 10^6 bytes"""


def main(run: Path, /, *, clients: int = CLIENTS, seconds: float = 60.0, items: int | None = None) -> None:
    """Measure, and show.

    Args:
        run: a run folder with an index
        clients: that ask at once
        seconds: for which they go on asking
        items: of a drawn index, as wide as the run's, that is asked in its place
    """
    crowd = measure(run, clients=clients, seconds=seconds, items=items)
    console.print(
        f"{crowd.clients} clients: {crowd.answered} of {crowd.asked} answered, {crowd.per_second:.1f} a second, median "
        f"{crowd.median_s:.3f} s, p99 {crowd.p99_s:.3f} s, longest {crowd.longest_s:.3f} s; memory at most "
        f"{crowd.peak_mb:,.0f} MB",
        soft_wrap=True,
    )
    print(json.dumps(asdict(crowd)), flush=True)  # noqa: T201 -- for programs


def measure(run: Path, *, clients: int, seconds: float, items: int | None = None) -> Crowd:
    """The clients' view of the server of a run with an index, or with a drawn one of so many items."""
    allow_files(2 * clients)
    with drawn_index(run, items) if items else nullcontext() as index, serving(run, index) as (port, process):
        asyncio.run(_asked(port))  # the first sentence is slower
        start = time.monotonic()
        times = asyncio.run(_all(port, clients, start + seconds))
        took, peak = time.monotonic() - start, memory_mb(process, "VmHWM")
    answers = [time for answered, time in times if answered] or [float("inf")]
    answered = sum(answered for answered, _ in times)
    median, late = np.percentile(answers, (50, 99), method="lower").tolist()
    return Crowd(clients, len(times), answered, answered / took, median, late, max(time for _, time in times), peak)


@contextmanager
def drawn_index(run: Path, items: int) -> Iterator[Path]:
    """A folder with an index of drawn pictures for a run's model; it is gone afterwards."""
    own = Store(run / DEFAULT / NAME)
    width = own.embeddings(MODALITY)[1].shape[1]
    with drawn(items, width, 1) as folder:
        begin(folder, own.about.similarity, run=own.about.run, fingerprint=own.about.fingerprint)
        for engine in ("exact", "HNSW"):
            console.print(built(folder, engine))
        yield folder


async def _all(port: int, clients: int, ends: float) -> list[tuple[bool, float]]:
    times: list[tuple[bool, float]] = []

    async def client() -> None:
        while time.monotonic() < ends:
            start = time.perf_counter()
            answered = await _asked(port)
            times.append((answered, time.perf_counter() - start))

    await asyncio.gather(*(client() for _ in range(clients)))
    return times


async def _asked(port: int) -> bool:
    """True if a sentence was answered, on a connection of its own."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(REQUEST)
                return (await reader.read(-1)).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


if __name__ == "__main__":
    sys.exit(report_errors(lambda: tyro.cli(main)))
