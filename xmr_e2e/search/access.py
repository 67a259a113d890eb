"""Access rules of the server: the names by which, the pages from which and the token with which it may be asked.

A page of any other site can send requests to a server on this machine, or give it a name of its own (DNS rebinding);
without these rules it could read what is indexed, or make the model work.
"""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

LOCAL = ("127.0.0.1", "::1", "localhost")
PAGES = ("/", "/docs")
"""which other sites may link to; scripts of theirs cannot read them"""

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII | re.IGNORECASE)
_ROOT = re.compile(r"(/[a-z0-9_-][a-z0-9_.-]*)*", re.ASCII | re.IGNORECASE)
_FIELDS = 20
"""in the address with the token, at most; the page has two"""
_UNKNOWN = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Token needed</title>
<h1>This search page needs a token</h1>
<p>Open the address that <code>xmr serve</code> printed when it was started, with <code>?token=…</code> at its end. It
is asked for once in a browser, and another time when the server was started again.</p>
<p>For the API: <code>curl -H 'Authorization: Bearer TOKEN' …</code></p>
</html>
"""


@dataclass(frozen=True)
class Rules:
    """The conditions on which a request is answered."""

    names: frozenset[str]
    """one of these in its Host header, where a port may follow: as `host_name` gives them"""
    also: frozenset[str] = frozenset()
    """those among them by which a proxy is asked; pages that have one in their address are the server's own"""
    token: str = ""
    """as a cookie or in an Authorization header; empty where none is needed"""
    cookie: str = "xmr_token"
    root_path: str = ""
    """under which a proxy shows the server, such as "/search"; a request may have it or not"""


def rules_for(
    asked: str, bound: str, port: int, *, names: Sequence[str] = (), token: str = "", root_path: str = ""
) -> Rules:
    """The rules of a server.

    Args:
        asked: the address or name that the user told it to listen on.
        bound: the address that it listens on.
        names: by which it is asked beside its addresses.

    Raises:
        XmrError: what is no name, or no path.
    """
    for name in names:
        _check_name(name)
    if not _ROOT.fullmatch(root_path):
        raise XmrError(f"--root-path {shortened(root_path)}: a path such as /search, without a / at its end")
    also = frozenset(_canonical(name) for name in names)
    named = {_canonical(asked)} if _NAME.fullmatch(asked) and not is_wildcard(bound) else set()
    return Rules(frozenset({*own_addresses(bound), *named, *also}), also, token, f"xmr_token_{port}", root_path)


def own_addresses(bound: str) -> set[str]:
    """The names by which a server on this address can be asked without anybody's help: the address itself; on a
    loopback address all names of this machine to itself; on 0.0.0.0 and :: its host name and the addresses of all its
    interfaces."""
    if is_wildcard(bound):
        found = {address.address for some in psutil.net_if_addrs().values() for address in some}
        name = socket.gethostname()
        named = {_canonical(name)} if _NAME.fullmatch(name) else set()
        return {*LOCAL, *named, *(_canonical(address) for address in found if _is_address(address))}
    return {_canonical(bound), *(LOCAL if is_loopback(bound) else ())}


def is_wildcard(address: str) -> bool:
    return ip_address(_without_zone(address)).is_unspecified


def is_loopback(address: str) -> bool:
    return ip_address(_without_zone(address)).is_loopback


def host_name(header: str) -> str:
    """The name or address in a Host header, without its port; empty for what is none."""
    found = _HOST.fullmatch(header)
    return _canonical(found[1]) if found else ""


class Access:
    """ASGI middleware that answers for the application where the rules are broken."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = self._inner(scope["path"])
        answer = self._answer(scope["method"], path, scope["query_string"], Headers(scope=scope))
        if answer is not None:
            await answer(scope, receive, send)
        else:
            root = self.rules.root_path
            await self.app({**scope, "path": root + path, "root_path": root}, receive, send)

    def _inner(self, path: str) -> str:
        """A path as the application has it; empty for the one that a proxy shows the server under."""
        root = self.rules.root_path
        return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path

    def _answer(self, method: str, path: str, query: bytes, headers: Headers) -> Response | None:
        """None for a request that keeps the rules."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_name(hosts[0]) not in self.rules.names:
            return _refuse(400, "this server has another name; `xmr serve --name NAME` lets it answer to one more")
        navigates = method in ("GET", "HEAD") and path in PAGES and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not navigates:
            return _refuse(403, "pages of other sites get no answer here")
        if "origin" in headers and not self._is_own(headers["origin"], hosts[0]):
            return _refuse(403, "pages of other sites get no answer here")
        if path == "" and self.rules.root_path:
            return RedirectResponse(f"{self.rules.root_path}/", 308)
        return self._ask_for_token(path, query, headers) if self.rules.token else None

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        is_web = parts.scheme in ("http", "https")
        return is_web and (parts.netloc == host.lower() or host_name(parts.netloc) in self.rules.also)

    def _ask_for_token(self, path: str, query: bytes, headers: Headers) -> Response | None:
        if path in PAGES and b"token=" in query:
            return self._exchange(path, query)
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        cookie = cookie_parser(headers.get("cookie", "")).get(self.rules.cookie, "")
        if self._is_token(cookie) or (kind.lower() == "bearer" and self._is_token(bearer.strip())):
            return None
        return self._unknown(is_page=path in PAGES)

    def _exchange(self, path: str, query: bytes) -> Response:
        """The token of an address for a cookie, so that it stands neither in bookmarks nor over a shared screen."""
        try:
            fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError:  # there are more
            return self._unknown(is_page=True)
        given = [value for name, value in fields if name == "token"]
        if not given or not self._is_token(given[-1]):
            return self._unknown(is_page=True)
        rest = urlencode([field for field in fields if field[0] != "token"])
        answer = RedirectResponse(f"{self.rules.root_path}{path}{'?' if rest else ''}{rest}", 303)
        answer.set_cookie(
            self.rules.cookie, self.rules.token, path=self.rules.root_path or "/", httponly=True, samesite="strict"
        )
        return answer

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.rules.token.encode())

    def _unknown(self, *, is_page: bool) -> Response:
        headers = {"WWW-Authenticate": "Bearer"}
        if is_page:
            return HTMLResponse(_UNKNOWN, 401, headers)
        detail = "this server needs the token that `xmr serve` printed: Authorization: Bearer TOKEN"
        return JSONResponse({"detail": detail}, 401, headers)


def _refuse(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


def _check_name(name: str) -> None:
    """Raise XmrError for what is no name or address of a host: a URL, a port, a pattern."""
    if not _NAME.fullmatch(name) and not _is_address(name):
        raise XmrError(f"--name {shortened(name)}: the name or address alone, such as search.example.org")


def _canonical(name: str) -> str:
    name = _without_zone(name.strip("[]").lower())
    return ip_address(name).compressed if _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ip_address(_without_zone(name.strip("[]")))
    except ValueError:
        return False
    return True


def _without_zone(address: str) -> str:
    """An IPv6 address without the interface behind it, as in fe80::1%eth0."""
    return address.partition("%")[0]
