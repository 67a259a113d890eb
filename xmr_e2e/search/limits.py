"""What keeps a server answering, whatever is sent to it: bounds on bodies, on patience and on the model's work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Result = TypeVar("Result")

UPLOAD_BYTES = 10 * 2**20
"""of a request's body; twice a good photograph"""
UPLOAD_S = 60.0
"""in which a body must have come; at 1.4 Mbit/s the largest has"""
DISCARDED_BYTES, DISCARDED_S = 2**28, 10.0
"""of a body that is refused, at most: who still sends when the connection is closed does not see the answer"""
QUEUE = 256
"""requests that wait for the model; those that come beyond it are turned away"""
PATIENCE_S = 30.0
"""for which a request waits for the model"""
ENDING = "the server is being ended"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # at the same address, another index may be served tomorrow
}


class Guard:
    """ASGI middleware: the body is bounded in size and in time while it comes, and each answer has HEADERS."""

    def __init__(self, app: ASGIApp, upload_bytes: int = UPLOAD_BYTES) -> None:
        self.app = app
        self.upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, self.upload_bytes, Headers(scope=scope))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            elif not message.get("more_body") and not body.is_over:
                await send({**message, "more_body": True})
                await body.discard()
                message = {"type": "http.response.body"}
            await send(message)

        await self.app(scope, body.receive, answer)


class _Body:
    """A request's body as it comes."""

    def __init__(self, receive: Receive, limit: int, headers: Headers) -> None:
        self._receive = receive
        self._limit = limit
        self._declared = int(headers.get("content-length", "0"))  # the server has checked that it is a number
        self._deadline = asyncio.get_running_loop().time() + UPLOAD_S
        self._received = 0
        self.is_over = self._declared == 0 and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """Raises HTTPException for a body that is too large or too slow."""
        if self.is_over:
            return await self._receive()
        if self._declared > self._limit:
            raise self._too_large()
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
        return HTTPException(413, f"the upload is larger than {self._limit / 2**20:g} MB; send a smaller picture")


class ModelWork:
    """One thread for the model, and a bounded queue before it."""

    def __init__(self, queue: int = QUEUE, patience: float = PATIENCE_S) -> None:
        self._thread = ThreadPoolExecutor(1, "model")
        self._queue = queue
        self._patience = patience
        self._waiting = 0

    async def do(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What the function returns, called in the model's thread when its turn has come.

        Raises:
            HTTPException: 503, the queue is full or does not move.
        """
        if self._waiting >= self._queue:
            raise self._busy(f"{self._queue} searches are waiting already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except TimeoutError as error:
            raise self._busy(f"the search was not done within {self._patience:g} seconds") from error
        except asyncio.CancelledError as error:
            raise HTTPException(503, ENDING) from error
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Drop what is waiting; what is being done ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _busy(self, reason: str) -> HTTPException:
        return HTTPException(503, f"too busy: {reason}; try again soon", {"Retry-After": "2"})
