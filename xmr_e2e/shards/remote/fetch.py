"""The bytes behind a URL, through fsspec (https, s3, gs, file, …)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.remote.address import WEB, hide_secrets, protocol_of

Result = TypeVar("Result")

ATTEMPTS = 5
FIRST_WAIT_S = 2.0
"""before the second attempt; twice as long before each one more"""
SILENCE_S = 60.0
"""after which a server that sends nothing has failed; how long a download may take altogether is not bounded"""
CHUNK = 1 << 20

logger = logging.getLogger(__name__)

_kept: set[AbstractFileSystem] = set()
"""as in http.py"""


class Failed(Exception):
    """An attempt failed in a way that may not come again."""


def check_protocol(url: str) -> None:
    """Raise XmrError where fsspec does not know the protocol, or has no package for it."""
    protocol = protocol_of(url)
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise XmrError(f"{hide_secrets(url)}: the protocol {protocol}:// is unknown") from error
    except ImportError as error:
        # fsspec's own message has no pip line; what it could not import is the cause of its error
        package = getattr(error.__cause__, "name", None) or error.name
        raise XmrError(
            f"{hide_secrets(url)}: {protocol}:// needs a package that is not installed: pip install {package}"
        ) from error


def fetch(url: str, receive: Callable[[Iterator[bytes]], Result]) -> Result:
    """The result of `receive` for the URL's bytes; after a failed connection, or its own `Failed`, it is called again.

    Raises:
        XmrError: no such file, no permission, or ATTEMPTS failures.
    """
    attempt = 1
    while True:
        try:
            with closing(_chunks(url)) as chunks:
                return receive(chunks)
        except Failed as error:
            if attempt == ATTEMPTS:
                raise XmrError(f"{hide_secrets(url)}: {error} (tried {ATTEMPTS} times)") from error
            wait = FIRST_WAIT_S * 2 ** (attempt - 1)
            logger.warning(
                "%s: %s (attempt %d of %d, the next in %g s)", hide_secrets(url), error, attempt, ATTEMPTS, wait
            )
        time.sleep(wait)
        attempt += 1


def fetch_bytes(url: str, *, most: int) -> bytes:
    """A whole file of a known bound.

    Raises:
        XmrError: as `fetch`; or it is larger, which shows while it comes.
    """

    def receive(chunks: Iterator[bytes]) -> bytes:
        content = bytearray()
        for chunk in chunks:
            content += chunk
            if len(content) > most:
                raise XmrError(f"{hide_secrets(url)}: more than {most:,} bytes, which are not read")
        return bytes(content)

    return fetch(url, receive)


def _chunks(url: str) -> Generator[bytes]:
    from xmr_e2e.shards.remote.http import read_url  # with aiohttp, which all that reads shards would import

    try:
        if protocol_of(url) in WEB:
            yield from read_url(url, chunk=CHUNK, silence_s=SILENCE_S)
            return
        filesystem, path = url_to_fs(url)
        _kept.add(filesystem)
        with filesystem.open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except XmrError:
        raise
    except Exception as error:  # each protocol's package raises its own
        if _is_final(error):
            raise XmrError(f"{hide_secrets(url)}: {_describe(error, url)} (tried once)") from error
        raise Failed(_describe(error, url)) from error


def _is_final(error: Exception) -> bool:
    """True for an error that trying again cannot help."""
    import aiohttp

    from xmr_e2e.shards.remote.http import PrivateAddress

    if isinstance(error, aiohttp.ClientResponseError):
        return 400 <= error.status < 500 and error.status not in (408, 425, 429)  # those three ask for patience
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateAddress):
        return True
    # ValueError: malformed URLs and, by its ancestry, a certificate that is not to be trusted
    return isinstance(error, (PrivateAddress, FileNotFoundError, PermissionError, IsADirectoryError, ValueError))


def _describe(error: Exception, url: str) -> str:
    """In one line, without the URL."""
    import aiohttp

    from xmr_e2e.shards.remote.http import PrivateAddress

    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, PrivateAddress):
        error = error.os_error
    if isinstance(error, PrivateAddress):
        return str(error)
    if isinstance(error, aiohttp.ClientResponseError):
        return " ".join(f"HTTP {error.status} {error.message}".split())
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    words = hide_secrets(str(error).replace(url, hide_secrets(url)))
    return " ".join(f"{type(error).__name__}: {words}".removesuffix(": ").split())
