"""The bytes behind a URL: through fsspec (https, s3, gs, file, …), or from a command's output (`pipe:`)."""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, BinaryIO, TypeVar

import aiohttp
import fsspec
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from xmr_e2e.errors import XmrError

Result = TypeVar("Result")

PIPE = "pipe:"
PLACE = "{}"
"""where a file's name goes in a URL that does not end with it"""
ATTEMPTS = 5
FIRST_WAIT_S = 2.0
"""before the second attempt; twice as long before each one more"""
SILENCE_S = 60.0
"""after which a server that sends nothing has failed; how long a download may take altogether is not bounded"""
CHUNK = 1 << 20

logger = logging.getLogger(__name__)

_kept: set[AbstractFileSystem] = set()
"""fsspec has one for each process and thread. Let go, it closes its connections: in whatever thread that happens, which
can block, and in a forked process although they are the parent's."""


class Failed(Exception):
    """An attempt failed in a way that may not come again."""


def url_of(url: str, name: str) -> str:
    """The URL of one file."""
    return url.replace(PLACE, name) if PLACE in url else f"{url.rstrip('/')}/{name}"


def check_url(url: str) -> None:
    """Raise XmrError for what is neither `SCHEME://…`, of a protocol that fsspec knows and has the package for, nor
    `pipe:COMMAND`."""
    if url.startswith(PIPE):
        if PLACE not in url:
            raise XmrError(
                f"{url}: the command needs a {PLACE} where the file's name goes: pipe:ssh host cat /data/{{}}"
            )
        return
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://.", url)
    if scheme is None:
        raise XmrError(f"{url}: not a URL; one begins with https://, s3://, file:// or pipe:")
    try:
        fsspec.get_filesystem_class(scheme[1])
    except ValueError as error:
        raise XmrError(f"{url}: the protocol {scheme[1]}:// is unknown") from error
    except ImportError as error:
        # fsspec's own message has no pip line; what it could not import is the cause of its error
        package = getattr(error.__cause__, "name", None) or error.name
        raise XmrError(f"{url}: {scheme[1]}:// needs a package that is not installed: pip install {package}") from error


def fetch(url: str, receive: Callable[[Iterator[bytes]], Result]) -> Result:
    """What `receive` makes of the URL's bytes; after a failed connection, or a `Failed` of its own, it is called again.

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
                raise XmrError(f"{url}: {error} (tried {ATTEMPTS} times)") from error
            wait = FIRST_WAIT_S * 2 ** (attempt - 1)
            logger.warning("%s: %s (attempt %d of %d, the next in %g s)", url, error, attempt, ATTEMPTS, wait)
        time.sleep(wait)
        attempt += 1


def _chunks(url: str) -> Generator[bytes]:
    if url.startswith(PIPE):
        yield from _output_of(url.removeprefix(PIPE))
        return
    try:
        with _open(url) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except Exception as error:  # each protocol's package raises its own
        if _is_final(error):
            raise XmrError(f"{url}: {_describe(error)} (tried once)") from error
        raise Failed(_describe(error)) from error


def _open(url: str) -> BinaryIO:
    http = url.startswith(("http://", "https://"))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    client = {"timeout": timeout, "read_bufsize": CHUNK, "trust_env": True}  # trust_env: proxies
    filesystem, path = url_to_fs(url, **({"client_kwargs": client} if http else {}))
    _kept.add(filesystem)
    # block_size 0 is one request for the whole file; a size, whatever it is, saves a HEAD request.
    return filesystem.open(path, "rb", **({"block_size": 0, "size": 1} if http else {}))


def _is_final(error: Exception) -> bool:
    """Whether trying again cannot help."""
    if isinstance(error, aiohttp.ClientResponseError):
        return 400 <= error.status < 500 and error.status not in (408, 425, 429)  # those three ask for patience
    # ValueError: malformed URLs and, by its ancestry, a certificate that is not to be trusted
    return isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, ValueError))


def _describe(error: Exception) -> str:
    """In one line, without the URL."""
    if isinstance(error, aiohttp.ClientResponseError):
        return " ".join(f"HTTP {error.status} {error.message}".split())
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())


def _output_of(command: str) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as messages:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": messages}
        with subprocess.Popen(command, shell=True, **pipes) as process:
            assert process.stdout is not None
            try:
                while chunk := process.stdout.read(CHUNK):
                    yield chunk
                status = process.wait()
            finally:
                process.kill()  # no effect on one that has ended
        messages.seek(0)
        last = messages.read().decode(errors="replace").strip().rpartition("\n")[2]
    if status:
        raise Failed(f"the command ended with status {status}{last and f': {last}'}")
