"""Addresses that shards are fetched from: which ones are taken, and what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from yarl import URL

from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

PIPE = "pipe:"
"""what earlier versions took for a command to run, and no version runs any more"""
PLACE = "{}"
"""where a file's name goes in a URL that does not end with it"""
WEB = ("http", "https")
PROTOCOLS = (*WEB, "s3", "gs", "sftp", "file")
"""plain stores of bytes. What else fsspec knows may read local files, run programs or unpack archives."""
NEVER = ("reference",)
"""whose files hold templates and URLs of their own"""
LONGEST = 4096
"""characters; a presigned URL has up to 2,000"""

_PARTS = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)")
_AUTHORITY = re.compile(r"[\w.~!$&()*+,;=:@%\[\]-]+")
_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"]*)")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d*)?")


def url_of(url: str, name: str) -> str:
    """The URL of one file."""
    return url.replace(PLACE, name) if PLACE in url else f"{url.rstrip('/')}/{name}"


def protocol_of(url: str) -> str:
    """The protocol of a URL that was checked."""
    return url.partition(":")[0]


def is_plain_store(url: str) -> bool:
    """True for a checked URL that does no more than name bytes; others run only where a user has allowed them."""
    return protocol_of(url) in PROTOCOLS


def check_url(url: str) -> None:
    """Raise XmrError for what is not `SCHEME://…`, a path on one host and nothing else."""
    if url.startswith(PIPE):  # not shown: of what is no URL, nothing tells which words are secret
        raise XmrError(
            f"{PIPE} addresses are commands, which are not run. Mount what the command reads: sftp://HOST/FOLDER for "
            "what lies behind ssh, another protocol of fsspec (--allow-protocol), or http://, by `python -m "
            "http.server` in that folder"
        )
    shown = shortened(_shown(url), quoted=False)
    if len(url) > LONGEST:
        raise XmrError(f"{shown}: {len(url):,} characters; a URL has at most {LONGEST:,}")
    if not url.isprintable() or url != url.strip():
        raise XmrError(f"{shown}: a URL has no line breaks, tabs or other characters that are not seen")
    found = _PARTS.fullmatch(url)
    if found is None:
        raise XmrError(f"{shown}: not a URL; one begins with https://, s3:// or file://")
    if reason := _fault(url, found[1]):
        raise XmrError(f"{hide_secrets(url)}: {reason}")


def _fault(url: str, protocol: str) -> str:
    if protocol in NEVER:
        return f"{protocol}:// is not read, since its files can name other addresses and hold templates"
    # In hosts of the web, :: stands for zeros, and fsspec does not get to see it.
    rest = url.removeprefix(f"{protocol}://")
    if "::" in (rest.partition("/")[2] if protocol in WEB else rest):
        return "protocols cannot be chained with ::"
    if "#" in url or ("?" in url and protocol not in WEB):
        return f"a {protocol}:// URL has no query and no fragment" if protocol not in WEB else "a URL has no fragment"
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises, too
        if protocol in WEB:
            URL(url)  # by which it is read in the end
    except ValueError:
        return "not a URL: host or port is malformed"  # without their words, which may quote a password
    return _fault_of_host(parts)


def _fault_of_host(parts: SplitResult) -> str:
    if parts.scheme == "file":
        return "" if not parts.netloc and parts.path.startswith("/") else "file:// takes an absolute path: file:///data"
    if not _AUTHORITY.fullmatch(parts.netloc) or not parts.hostname:
        return "the host is missing or has characters that hosts do not have"
    return ""


def hide_secrets(text: str) -> str:
    """A URL, or a text with URLs, as it may stand in messages: users, passwords and queries are ***."""
    return _IN_TEXT.sub(lambda found: found[1] + _hide(found[2]), text)


def holds_secret(url: str) -> bool:
    """True for a URL with parts that are not shown."""
    return hide_secrets(url) != url


def _shown(url: str) -> str:
    """The whole text as one URL, though it be none: blanks do not end it. To be called before it is cut: of the half of
    a password, nothing tells that it is no host."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{_hide(rest)}" if mark else hide_secrets(url)


def _hide(rest: str) -> str:
    """Hide the secrets in what stands behind ://."""
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    _, at, host = rest[:end].rpartition("@")
    rest = rest[end:]
    if "@" in rest and not _HOST.fullmatch(host):  # what was taken for the host is a part of the password
        at, host, rest = "@", "", rest.rpartition("@")[2]
    path, query, _ = rest.partition("?")
    return f"{at and '***@'}{host}{path}{query and '?***'}"
