"""Connections: how many, for how long, and what those get that never come to the application."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from xmr_e2e.search.limits import HEADERS, TIMEOUT_S, UPLOAD_S, client_of

CONNECTIONS = 1000
"""at a time"""
CLIENT_CONNECTIONS = 250
"""of one client; beyond them, its idle ones are closed"""
HEADER_S = 10.0
"""in which a request's header must have come, from the connection or the last answer on"""
REQUEST_S = UPLOAD_S + 3 * TIMEOUT_S
"""in which a request must have been sent, answered, and the answer read"""
YOUNG_S = 1.0
"""for which a connection may be idle even where there are too many: many are made at once, and read afterwards"""
CLOSING_S = 5.0
"""in which the last words must have been read"""


class Protocol(H11Protocol):
    """uvicorn's, with bounds on connections; what it answers by itself is JSON with HEADERS."""

    _timer: asyncio.TimerHandle | None = None
    _timed: object = None
    """the request to which the timer belongs"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self.client_name = client_of(self.client)
        self._let_pass(HEADER_S)
        others = [each for each in self.connections if each is not self and isinstance(each, Protocol)]
        if not make_room([each for each in others if not each.transport.is_closing()], self):
            self._end(503, "too many connections; try again soon")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.is_busy and self.conn.their_state is h11.SEND_BODY:
            self._close()  # who goes on sending after the answer would be read for ever
        self._time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def send_400_response(self, msg: str) -> None:
        self._end(400, "not an HTTP request that can be read")

    @property
    def is_busy(self) -> bool:
        """A request has come, and is not answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _time(self) -> None:
        """Begin to count the time of what has begun: a request, or the wait for the next one."""
        current = self.cycle if self.is_busy else None
        if current is self._timed or self.transport.is_closing():
            return
        self._timed = current
        self.idle_since = self.loop.time()
        self._let_pass(REQUEST_S if self.is_busy else HEADER_S)

    def _let_pass(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._out_of_time)

    def _out_of_time(self) -> None:
        if self.is_busy or self.transport.is_closing():
            self.drop()
        elif self.conn.trailing_data[0]:
            self._end(408, f"the request's header did not come to its end within {HEADER_S:g} seconds")
        else:
            self._close()

    def _end(self, status: int, detail: str) -> None:
        """Say why, and close."""
        if not self.is_busy:
            body = json.dumps({"detail": detail}).encode()
            headers = {
                **HEADERS,
                "Content-Type": "application/json",
                "Content-Length": len(body),
                "Connection": "close",
            }
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
            self.transport.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._let_pass(CLOSING_S)


def make_room(others: list[Protocol], new: Protocol) -> bool:
    """Close what is idle where there are too many connections; whether there is room for the new one.

    One client cannot take all of them: its own idle ones go first, and then those of the client that has most.
    """
    now = new.loop.time()
    own = [each for each in others if each.client_name == new.client_name]
    if len(own) >= CLIENT_CONNECTIONS:
        oldest = _oldest_idle(own)
        if oldest and now - oldest.idle_since >= YOUNG_S:
            oldest.drop()
            return True
    if len(others) < CONNECTIONS:
        return True
    greatest = Counter(each.client_name for each in others).most_common(1)[0][0]
    oldest = _oldest_idle(each for each in others if each.client_name == greatest)
    if oldest:
        oldest.drop()
    return oldest is not None


def _oldest_idle(connections: Iterable[Protocol]) -> Protocol | None:
    idle = [each for each in connections if not each.is_busy]
    return min(idle, key=lambda each: each.idle_since, default=None)


def allow_connections() -> None:
    """Let this process have the files open that so many connections and uploads need; 1,024 are usual."""
    wanted: int = 2 * CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
