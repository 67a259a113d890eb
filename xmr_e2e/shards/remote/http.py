"""Bytes from web servers, which may be a stranger's: where they redirect to is looked at, and slow ones have failed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Generator
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import fsspec
from fsspec.asyn import AsyncFileSystem, get_loop, sync
from yarl import URL

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.remote.address import WEB, hide_secrets

REDIRECTS = 5
"""in a row, at most"""
SLOWEST = 1000
"""bytes a second that a server sends at least, on the average over the time for which it may be silent"""
_MOVED = (301, 302, 303, 307, 308)
_FOR_THE_ORIGIN = {"headers", "auth", "cookies", "params"}
"""of the user's settings for requests: not for whom a server redirects to"""

_kept: set[AsyncFileSystem] = set()
"""fsspec has one for each process and thread. Let go, it closes its connections: in whatever thread that happens, which
can block, and in a forked process although they are the parent's."""


class TooSlow(Exception):
    """A server that answers, and sends next to nothing."""


class PrivateAddress(OSError):
    """A public server redirects to the machine itself or to its own network."""

    def __init__(self) -> None:
        # The same words for all addresses of a host: then aiohttp passes one of them on.
        super().__init__("redirected to an address of this machine or of its network, which is not followed")


def read_url(url: str, *, chunk: int, silence_s: float) -> Generator[bytes]:
    """The bytes of a URL, decompressed, in chunks of at most this size.

    Args:
        silence_s: after so many seconds without a byte, a server has failed; after twice as many, one that has not
            begun to answer.

    Raises:
        XmrError: redirects that are not followed.
        FileNotFoundError: there is no such file.
        aiohttp.ClientError, OSError, TimeoutError, TooSlow: of connections and servers.
    """
    loop = get_loop()  # fsspec's, in a thread of its own
    response = sync(loop, _get, URL(url), chunk, silence_s)
    try:
        if response.status == 404:
            raise FileNotFoundError(hide_secrets(url))
        response.raise_for_status()
        waited, received = 0.0, 0
        while True:
            before = time.monotonic()
            part = sync(loop, response.content.read, chunk)
            waited += time.monotonic() - before
            received += len(part)
            if not part:
                return
            if waited > silence_s:
                if received < SLOWEST * waited:
                    raise TooSlow(f"{received:,} bytes in {waited:.0f} s are too few")
                waited, received = 0.0, 0
            yield part
    finally:
        loop.call_soon_threadsafe(response.close)


async def _get(url: URL, chunk: int, silence_s: float) -> aiohttp.ClientResponse:
    """The answer of whoever has the file in the end."""
    origin, is_private = url.origin(), False
    for hop in range(REDIRECTS + 1):
        is_own = url.origin() == origin
        if not is_own and not is_private and _is_proxied(url) and await _addresses_are(url, any):
            raise PrivateAddress
        is_free = is_own or is_private or _is_proxied(url)
        filesystem = _filesystem(_open_session if is_free else _open_public_session, chunk, silence_s)
        session = await filesystem.set_session()
        options = {key: value for key, value in filesystem.kwargs.items() if is_own or key not in _FOR_THE_ORIGIN}
        request = session.get(url, **options, allow_redirects=False)
        response: aiohttp.ClientResponse = await asyncio.wait_for(request, 2 * silence_s)
        if response.status not in _MOVED:
            return response
        response.close()
        is_private = is_private or (hop == 0 and await _addresses_are(url, all))
        url = _next(url, response.headers.get("Location", ""))
    raise XmrError(f"{hide_secrets(str(origin))}: redirects more than {REDIRECTS} times")


def _next(url: URL, location: str) -> URL:
    """The URL to which a server redirects."""
    try:
        target = url.join(URL(location))
        if not location:
            raise ValueError
    except ValueError as error:
        raise XmrError(f"{hide_secrets(str(url))}: redirects to what is no URL") from error
    if target.scheme not in WEB or (url.scheme, target.scheme) == ("https", "http"):
        raise XmrError(
            f"{hide_secrets(str(url))}: redirects from {url.scheme}:// to {target.scheme}://, which is not followed"
        )
    if not target.host:
        raise XmrError(f"{hide_secrets(str(url))}: redirects to a URL without a host")
    return target


def _filesystem(get_client: Any, chunk: int, silence_s: float) -> Any:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence_s, sock_read=silence_s)
    client = {"timeout": timeout, "read_bufsize": chunk}
    filesystem = fsspec.filesystem("http", client_kwargs=client, get_client=get_client)
    _kept.add(filesystem)
    return filesystem


async def _open_session(**options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(**options, trust_env=True)  # proxies


async def _open_public_session(**options: Any) -> aiohttp.ClientSession:
    """One that reaches public addresses only, directly, and without the passwords that the user has in .netrc."""
    return aiohttp.ClientSession(**options, connector=aiohttp.TCPConnector(socket_factory=_public_socket))


def _public_socket(address: Any) -> socket.socket:
    # Here and not where names are resolved, since a name can be another address at the next moment.
    family, kind, protocol, _, place = address
    if not _is_public(place[0]):
        raise PrivateAddress
    return socket.socket(family, kind, protocol)


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


def _is_proxied(url: URL) -> bool:
    return url.scheme in getproxies() and not proxy_bypass(url.host or "")


async def _addresses_are(url: URL, quantity: Any) -> bool:
    """True if any, or all, of a host's addresses are private ones; False for a host that only a proxy may know."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(quantity(not _is_public(str(place[0])) for *_, place in found))
