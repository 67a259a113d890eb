"""The server of the page under what it is not made for: an ordinary client beside three kinds of hostile ones.

    python -m benchmarks.hostile_load RUN
    python -m benchmarks.hostile_load RUN --side 6300       # pictures that are just small enough to be decoded
    python -m benchmarks.hostile_load RUN --silent 0

RUN is a run folder with an index. On loopback, for a minute: 12 clients send one small file after the other that
decodes to many pixels, 150 send 9 MB each again and again, and 1,000 connections say nothing; an ordinary client asks
sentences meanwhile. Shown, and printed as one line of JSON: how many of its questions were answered, how long the
answers took, and the server's memory.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import tyro
from PIL import Image

from benchmarks.measure import memory_mb
from benchmarks.served import allow_files, ask, serving
from xmr_e2e.console import console, report_errors

BOMBS, LARGE, SILENT = 12, 150, 1000
"""hostile clients of each kind"""
LARGE_BYTES = 9_000_000
PAUSE_S = 0.05
"""between the questions of the ordinary client"""


@dataclass(frozen=True)
class Load:
    """The answers that the ordinary client got."""

    asked: int
    answered: int
    share: float
    """of its questions, that were answered"""
    median_s: float
    """of the answers"""
    p99_s: float
    longest_s: float
    """answered or not"""
    quiet_median_s: float
    """of the answers before the hostile clients came"""
    peak_mb: float
    """of the server's memory (VmHWM), in 10^6 bytes"""
    quiet_mb: float
    hostile: dict[str, int]
    """number of times that they got each outcome: a status, or no answer"""


def main(
    run: Path,
    /,
    *,
    seconds: float = 60.0,
    side: int = 10_900,
    bombs: int = BOMBS,
    large: int = LARGE,
    silent: int = SILENT,
) -> None:
    """Measure, and show.

    Args:
        run: a run folder with an index
        seconds: that the hostile clients are there
        side: of the square picture that the small files decode to, in pixels
        bombs: clients that send such a file, again and again
        large: clients that send 9 MB, again and again
        silent: connections that send half a header
    """
    load = measure(run, seconds=seconds, side=side, bombs=bombs, large=large, silent=silent)
    console.print(
        f"{load.answered} of {load.asked} answered ({load.share:.1%}), median {load.median_s:.3f} s, "
        f"p99 {load.p99_s:.3f} s, longest {load.longest_s:.3f} s; alone: median {load.quiet_median_s:.3f} s; "
        f"memory at most {load.peak_mb:,.0f} MB, alone {load.quiet_mb:,.0f} MB",
        soft_wrap=True,
    )
    print(json.dumps(asdict(load)), flush=True)  # noqa: T201 -- for programs


def measure(run: Path, *, seconds: float, side: int, bombs: int, large: int, silent: int) -> Load:
    """The ordinary client's view, first alone and then beside hostile ones."""
    allow_files(2 * (bombs + large + silent))
    with serving(run) as (port, process):
        quiet = [ask(port) for _ in range(50)]
        quiet_mb = memory_mb(process, "VmRSS")
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        hostile = context.Process(target=attack, args=(port, seconds, side, bombs, large, silent, there))
        hostile.start()
        here.recv()  # they are about to begin
        times: list[tuple[bool, float]] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            times.append(ask(port))
            time.sleep(PAUSE_S)
        statuses = here.recv()
        hostile.join()
        peak = memory_mb(process, "VmHWM")
    answers = sorted(took for answered, took in times if answered)
    return Load(
        asked=len(times),
        answered=len(answers),
        share=len(answers) / len(times),
        median_s=statistics.median(answers) if answers else float("inf"),
        p99_s=answers[int(0.99 * (len(answers) - 1))] if answers else float("inf"),
        longest_s=max(took for _, took in times),
        quiet_median_s=statistics.median(took for _, took in quiet),
        peak_mb=peak,
        quiet_mb=quiet_mb,
        hostile=statuses,
    )


# The hostile clients, in a process of their own


def attack(port: int, seconds: float, side: int, bombs: int, large: int, silent: int, done: Connection) -> None:
    """Be all of them for so many seconds; then send how often they got what."""
    allow_files(2 * (bombs + large + silent))
    found: Counter[str] = Counter()
    small_file, large_file = _form(_bomb(side)), _form(_padded())
    done.send("ready")

    async def again(client: Callable[[], Awaitable[str]]) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                found[await client()] += 1
                continue
            found["no answer"] += 1
            await asyncio.sleep(0.1)

    async def run() -> None:
        clients = [again(lambda: _upload(port, small_file)) for _ in range(bombs)]
        clients += [again(lambda: _upload(port, large_file)) for _ in range(large)]
        clients += [again(lambda: _be_silent(port)) for _ in range(silent)]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*clients)

    asyncio.run(run())
    done.send(dict(found))


async def _upload(port: int, request: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return (await reader.readuntil(b"\r\n")).split()[1].decode()
    finally:
        writer.transport.abort()


async def _be_silent(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        await reader.read()
        return "closed while silent"
    finally:
        writer.transport.abort()


def _form(content: bytes) -> bytes:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
    head = (
        "POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _bomb(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (side, side), (200, 90, 60, 128)).save(stream, "PNG", compress_level=9)
    return stream.getvalue()


def _padded() -> bytes:
    """A small JPEG, and zeros behind it."""
    stream = io.BytesIO()
    Image.new("RGB", (320, 240), "teal").save(stream, "JPEG")
    return stream.getvalue().ljust(LARGE_BYTES, b"\0")


if __name__ == "__main__":
    sys.exit(report_errors(lambda: tyro.cli(main)))
