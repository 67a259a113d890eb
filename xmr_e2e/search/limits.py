"""Limits that keep a server answering, whatever is sent to it: bounds on bodies, on patience and on waiting.

Of everything that there is only so much of, one client can have a part. A client is an address, in IPv6 a network: who
asks through a proxy or a tunnel has the proxy's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_BYTES = 10 * 2**20
"""of a request's body; twice a good photograph"""
UPLOAD_PIXELS = 40_000_000
"""of an uploaded picture: some 640 MB while it is decoded"""
LARGE_PIXELS = 13_000_000
"""above which a picture is decoded in a queue of its own; a phone's photograph has 12 million"""
UPLOAD_S = 60.0
"""in which a body must have come; at 1.4 Mbit/s the largest has"""
BODIES_BYTES, CLIENT_BODIES_BYTES = 128 * 2**20, 32 * 2**20
"""of bodies that are here at once, and of those of one client; who comes beyond them waits, unread"""
WAITING_BODIES, CLIENT_WAITING_BODIES = 256, 128
"""requests that wait to be read; those that come beyond are turned away"""
LEAST_BODY = 64 * 2**10
"""bytes, as which a smaller one counts"""
DISCARDED_BYTES, DISCARDED_S = 2**28, 10.0
"""of a body that is refused, at most: who still sends when the connection is closed does not see the answer"""
DISCARDING = 16
"""bodies that are read for that reason at a time"""
SENTENCES, CLIENT_SENTENCES = 512, 256
PICTURES, CLIENT_PICTURES = 128, 32
LARGE_PICTURES, CLIENT_LARGE_PICTURES = 16, 4
MEDIA, CLIENT_MEDIA = 16, 4
"""searches that wait; those that come beyond are turned away"""
DECODE_S = 20.0
"""in which an uploaded file must be decoded"""
DECODE_BYTES = 2**31
"""of memory that decoding a file may take"""
TIMEOUT_S = 30.0
"""for which a request waits in each queue"""
ENDING = "the server is being ended"
RETRY = {"Retry-After": "2"}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # at the same address, another index may be served tomorrow
}
_LOG = logging.getLogger(__name__)


def client_of(address: tuple[str, int] | None) -> str:
    """The client at an address: of IPv6 the network of 64 bits, in which anybody has as many addresses as he likes."""
    try:
        found = ip_address(address[0].partition("%")[0] if address else "")
    except ValueError:  # a test's, or a socket's without addresses
        return ""
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return str(found)


class BodyLimitMiddleware:
    """ASGI middleware, to be the outermost: the body is bounded in size and in time while it comes, each answer has
    HEADERS, and each failure is JSON."""

    def __init__(self, app: ASGIApp, upload_bytes: int = UPLOAD_BYTES, bodies: Bodies | None = None) -> None:
        self.app = app
        self.upload_bytes = upload_bytes
        self.bodies = bodies or Bodies()
        self._discarding = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            elif not message.get("more_body") and not body.is_over:
                await send({**message, "more_body": True})
                await self._discard(body)
                message = {"type": "http.response.body"}
            await send(message)

        body = _Body(receive, self.upload_bytes, Headers(scope=scope))
        try:
            async with self.bodies.room(client_of(scope.get("client")), body.size):
                await self.app(scope, body.receive, answer)
        except Exception as error:
            if started:
                raise  # the application has answered that it failed; the server logs why
            if not isinstance(error, HTTPException):
                _LOG.exception("a request failed")
                error = HTTPException(500, FAILED)
            await JSONResponse({"detail": error.detail}, error.status_code, error.headers)(scope, receive, answer)

    async def _discard(self, body: _Body) -> None:
        if self._discarding < DISCARDING:
            self._discarding += 1
            try:
                await body.discard()
            finally:
                self._discarding -= 1


FAILED = "the server failed at this; its console says why"


class _Body:
    """A request's body as it comes."""

    def __init__(self, receive: Receive, limit: int, headers: Headers) -> None:
        self._receive = receive
        self._limit = limit
        declared = headers.get("content-length", "0")  # the server has checked that it is a number
        self._declared = int(declared) if declared.isdecimal() and len(declared) < 20 else limit + 1
        self._deadline: float | None = None
        self._received = 0
        self.is_over = self._declared == 0 and "transfer-encoding" not in headers

    @property
    def size(self) -> int:
        """Bytes that it can have; 0 for one that is refused without being read."""
        if self.is_over or self._declared > self._limit:
            return 0
        return max(LEAST_BODY, self._declared or self._limit)

    async def receive(self) -> Message:
        """Raises HTTPException for a body that is too large or too slow."""
        if self.is_over:
            return await self._receive()
        if self._declared > self._limit:
            raise self._too_large()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + UPLOAD_S
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._next()
        except TimeoutError as error:
            raise HTTPException(408, f"the request did not come to its end within {UPLOAD_S:g} seconds") from error
        except asyncio.CancelledError as error:  # by uvicorn, after its grace
            raise HTTPException(503, ENDING) from error
        if self._received > self._limit:
            raise self._too_large()
        return message

    async def discard(self) -> None:
        """Read on, and keep nothing."""
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(DISCARDED_S):
                while not self.is_over and self._received < DISCARDED_BYTES:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self.is_over = not message.get("more_body")
        return message

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the upload is larger than {self._limit / 2**20:g} MB; send a smaller file")


@dataclass(eq=False)
class _Waiting:
    client: str
    size: int
    turn: asyncio.Future[None]


class Bodies:
    """Room for bodies; requests that find none wait, in the order in which they came, and nothing of them is read."""

    def __init__(
        self,
        total: int = BODIES_BYTES,
        share: int = CLIENT_BODIES_BYTES,
        waiting: int = WAITING_BODIES,
        client_waiting: int = CLIENT_WAITING_BODIES,
        patience: float = TIMEOUT_S,
    ) -> None:
        self._total, self._share = total, share
        self._most_waiting, self._most_of_client = waiting, client_waiting
        self._patience = patience
        self._held: Counter[str] = Counter()
        """client -> bytes"""
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def room(self, client: str, size: int) -> AsyncIterator[None]:
        """Hold so many bytes.

        Raises:
            HTTPException: 503, there is none for too long, or too many wait for it.
        """
        if size:
            await self._enter(client, size)
        try:
            yield
        finally:
            if size:
                self._leave(client, size)

    async def _enter(self, client: str, size: int) -> None:
        of_client = sum(each.client == client for each in self._waiting)
        if len(self._waiting) >= self._most_waiting or of_client >= self._most_of_client:
            raise busy("too many uploads are waiting already")
        entry = _Waiting(client, size, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._admit()
        try:
            async with asyncio.timeout(self._patience):
                await entry.turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if entry in self._waiting:
                self._waiting.remove(entry)
            if entry.turn.done() and not entry.turn.cancelled():  # its turn came at the same moment
                self._leave(client, size)
            if isinstance(error, TimeoutError):
                raise busy(f"there was no room for the upload within {self._patience:g} seconds") from error
            raise HTTPException(503, ENDING) from error

    def _leave(self, client: str, size: int) -> None:
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
        self._admit()

    def _admit(self) -> None:
        """Let in those whose turn it is: of each client in order, and none past one for which it is too full."""
        full: set[str] = set()
        for entry in list(self._waiting):
            if entry.client in full or entry.turn.done():  # it has just given up
                continue
            if self._held[entry.client] + entry.size > self._share:
                full.add(entry.client)
            elif self._held.total() + entry.size > self._total:
                break
            else:
                self._held[entry.client] += entry.size
                self._waiting.remove(entry)
                entry.turn.set_result(None)


def busy(reason: str) -> HTTPException:
    """The answer to whoever comes while there is no room."""
    return HTTPException(503, f"too busy: {reason}; try again soon", RETRY)
