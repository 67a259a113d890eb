"""Queues of the server's work: the model's thread, and before it those that wait for files to be decoded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

from xmr_e2e.search.decoding import Decode, Decoder, decode_file
from xmr_e2e.search.limits import (
    CLIENT_LARGE_PICTURES,
    CLIENT_MEDIA,
    CLIENT_PICTURES,
    CLIENT_SENTENCES,
    DECODE_S,
    ENDING,
    LARGE_PICTURES,
    MEDIA,
    PICTURES,
    SENTENCES,
    TIMEOUT_S,
    busy,
)

Result = TypeVar("Result")


class WorkQueue:
    """A bounded queue for one kind of work, and the threads that do it."""

    def __init__(self, name: str, queue: int, share: int, *, threads: int = 1, patience: float = TIMEOUT_S) -> None:
        """
        Args:
            queue: calls that wait or are done at a time.
            share: of one client.
        """
        self.threads = ThreadPoolExecutor(threads, name)
        self._queue, self._share = queue, share
        self._patience = patience
        self._waiting: Counter[str] = Counter()

    async def do(self, client: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call the function in one of the threads when its turn has come, and return its result.

        Raises:
            HTTPException: 503, the queue is full or does not move.
        """
        if self._waiting.total() >= self._queue or self._waiting[client] >= self._share:
            raise busy(f"{self._waiting.total()} searches are waiting already")
        self._waiting[client] += 1
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)
        except TimeoutError as error:
            raise busy(f"the search was not done within {self._patience:g} seconds") from error
        except asyncio.CancelledError as error:
            raise HTTPException(503, ENDING) from error
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def close(self) -> None:
        """Drop what is waiting; what is being done ends by itself."""
        self.threads.shutdown(wait=False, cancel_futures=True)


class DecodingQueue(WorkQueue):
    """A queue whose one thread has a process that decodes files for it."""

    def __init__(self, name: str, queue: int, share: int, decoder: Decoder) -> None:
        super().__init__(name, queue, share)
        self.decoder = decoder

    async def start(self) -> None:
        """Have the process ready for the first file."""
        await asyncio.get_running_loop().run_in_executor(self.threads, self.decoder.start)

    def close(self) -> None:
        """Drop what is waiting, and end what is being decoded."""
        super().close()
        self.decoder.close()


class InferenceQueues:
    """The model's thread, and before it those that decode files, so that no sentence waits for a file that is being
    decoded, no picture for a video, and no photograph for a picture that is made to take long."""

    def __init__(self, decode: Decode = decode_file, patience: float = DECODE_S) -> None:
        """
        Args:
            decode: a function of a module, which is called in other processes.
            patience: seconds in which a file must be decoded.
        """
        self.model = WorkQueue("model", SENTENCES, CLIENT_SENTENCES)

        def queue(name: str, most: int, share: int) -> DecodingQueue:
            return DecodingQueue(name, most, share, Decoder(decode, patience))

        self.pictures = queue("pictures", PICTURES, CLIENT_PICTURES)
        self.large_pictures = queue("large-pictures", LARGE_PICTURES, CLIENT_LARGE_PICTURES)
        self.media = queue("media", MEDIA, CLIENT_MEDIA)
        """sounds, videos and shapes"""

    def with_model(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call the function in the model's thread and return its result; for a thread that decodes."""
        return self.model.threads.submit(function, *arguments).result()

    async def start(self) -> None:
        """Have all processes ready."""
        await asyncio.gather(*(queue.start() for queue in (self.pictures, self.large_pictures, self.media)))

    def close(self) -> None:
        for queue in (self.media, self.large_pictures, self.pictures, self.model):
            queue.close()
