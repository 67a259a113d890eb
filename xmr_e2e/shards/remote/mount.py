"""Folders of shards whose tars stay where they are, at a URL.

`mount` makes such a folder: manifest and indexes, and `remote.json`, which says where the tars lie. From then on it is
a folder of shards as any other; what needs a tar gets it with `open_tar`, which fetches it into the node's cache.

What comes from a URL is not trusted: names and checksums are looked at before anything is done with them. Neither is a
mounted folder, which may come from somebody else: its URL is asked for a tar, and its cache written into, only for the
user who has mounted it, or has allowed it (trust.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pwd
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import ConfigDict, Field

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.files import write_atomically
from xmr_e2e.received import JSON_BYTES, inside, parse, read_bytes, shortened
from xmr_e2e.shards.index import index_path, load_index, most_index_bytes
from xmr_e2e.shards.manifest import (
    BUILD_DIR,
    EXTEND_DIR,
    NAME,
    REMOTE,
    Manifest,
    Shard,
    load_manifest,
    parse_manifest,
    shard_file,
)
from xmr_e2e.shards.parallel import map_shards
from xmr_e2e.shards.remote.address import (
    LONGEST,
    PROTOCOLS,
    check_url,
    hide_secrets,
    holds_secret,
    is_plain_store,
    protocol_of,
    url_of,
)
from xmr_e2e.shards.remote.cache import Cache, make_folder
from xmr_e2e.shards.remote.fetch import Failed, check_protocol, fetch, fetch_bytes
from xmr_e2e.shards.remote.trust import is_trusted, permissions_folder, trust

INDEXES_AT_ONCE = 8
REMOTE_BYTES = 2**16
"""of remote.json, at most"""
INDEX_BYTES = 2**28
"""of the index of a shard that is mounted, at most"""
CACHE_BYTES = 2**60
"""of a cache, at most"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Document:
    """remote.json."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    url: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    cache: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None
    cache_bytes: Annotated[int, Field(ge=1, le=CACHE_BYTES)]


@dataclass(frozen=True)
class Mount:
    """The source of the tars of a mounted folder, and the place of their copies."""

    folder: Path
    url: str
    cache_folder: Path | None
    """None: a folder of each node and user, `default_cache`"""
    cache_bytes: int

    def encode(self) -> bytes:
        """The bytes of `remote.json`."""
        document = {
            "url": self.url,
            "cache": self.cache_folder and str(self.cache_folder),
            "cache_bytes": self.cache_bytes,
        }
        # A path that is not UTF-8 comes as surrogates, which parse_mount refuses.
        return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode(errors="surrogatepass")

    def save(self) -> None:
        """Write `remote.json`, where it is not there as it should be; for this user alone if the URL has a secret."""
        path, content = self.folder / REMOTE, self.encode()
        is_secret = holds_secret(self.url)
        if _read(path, REMOTE_BYTES) == content and not (is_secret and path.stat().st_mode & 0o077):
            return
        write_atomically(path, content, mode=0o600 if is_secret else 0o666)

    @cached_property
    def cache(self) -> Cache:
        return Cache(self.cache_folder or default_cache(), self.cache_bytes)

    def touch(self, shard: Shard) -> None:
        """Note that a tar is in use."""
        self.cache.touch(shard)

    def open(self, shard: Shard) -> int:
        """The open copy of a tar, a file descriptor; fetched where the node has none.

        Raises:
            XmrError: the tar cannot be fetched, is not what the manifest says, or does not fit into the cache.
        """
        _check_trusted(self)
        make_folder(self.cache.folder, is_default=self.cache_folder is None)
        return self.cache.open(shard, lambda file: self._fetch(shard, file))

    def _fetch(self, shard: Shard, file: BinaryIO) -> None:
        url = url_of(self.url, shard.name)
        logger.info("fetching %s, %.1f MB", hide_secrets(url), shard.bytes / 1e6)

        def receive(chunks: Iterator[bytes]) -> None:
            file.seek(0)
            size, digest = 0, hashlib.sha256()
            for chunk in chunks:
                size += len(chunk)
                if size > shard.bytes:
                    break
                file.write(chunk)
                digest.update(chunk)
            _compare(size, digest.hexdigest(), shard)

        fetch(url, receive)


def _compare(size: int, sha256: str, shard: Shard) -> None:
    advice = "; if the shards were built again there, mount them again"
    if size < shard.bytes:
        raise Failed(f"ended after {size:,} bytes; the manifest says {shard.bytes:,}{advice}")
    if size > shard.bytes:
        raise Failed(f"more than the {shard.bytes:,} bytes that the manifest says{advice}")
    if sha256 != shard.sha256:
        raise Failed(f"the sha256 is not the manifest's{advice}")


def load_mount(folder: Path) -> Mount | None:
    """The source of a folder's tars; None if it is not mounted. Raises XmrError when `remote.json` is damaged."""
    try:
        content = read_bytes(inside(folder, REMOTE), most=REMOTE_BYTES)
    except FileNotFoundError:
        return None
    return parse_mount(content, folder)


def parse_mount(content: bytes, folder: Path) -> Mount:
    """Read the bytes of a folder's `remote.json`. Raises XmrError as `load_mount` does."""
    where = str(folder / REMOTE)
    document = parse(_Document, content, where, most=REMOTE_BYTES)
    try:
        check_url(document.url)
    except XmrError as error:
        raise XmrError(f"{where}: url: {error}") from error
    cache = document.cache and Path(document.cache)
    if cache and not (cache.is_absolute() and document.cache.isprintable()):  # type: ignore[union-attr]  # for cache is
        raise XmrError(f"{where}: cache: should be an absolute path, not {shortened(document.cache)}")
    return Mount(folder, document.url, cache or None, document.cache_bytes)


def open_tar(folder: Path, shard: Shard, mount: Mount | None) -> int:
    """A shard's open tar, a file descriptor: the file in the folder; where there is none, the copy of what is mounted.

    Raises:
        XmrError: the file is a link that leads out of the folder; or as `Mount.open`.
        OSError: the file cannot be read; nothing is mounted, and it is missing.
    """
    try:
        return os.open(shard_file(folder, shard.name), os.O_RDONLY)
    except FileNotFoundError:
        if mount is None:
            raise
    return mount.open(shard)


def mount(url: str, folder: Path, *, cache: Path | None, cache_bytes: int, allowed: str | None = None) -> Manifest:
    """Make `folder` a folder of the shards at `url`, without their tars; or bring it up to date.

    Args:
        url: of the folder of shards; or with {} where a file's name goes.
        cache: where the tars are kept that have been fetched; None for `default_cache`.
        cache_bytes: how much they may take together.
        allowed: the protocol that the URL may have besides PROTOCOLS.

    Raises:
        XmrError: a URL that is no use, a folder that holds shards of its own, or remote shards that cannot be fetched
            or are not sound.
    """
    check_url(url)
    mounted = Mount(folder, url, cache and cache.absolute(), cache_bytes)
    parse_mount(mounted.encode(), folder)  # what is written can be read again
    check_protocol(url)
    if protocol_of(url) != allowed:
        _check_plain(mounted)
    _check_place(folder)
    where = url_of(url, NAME)
    content = fetch_bytes(where, most=JSON_BYTES)
    manifest = parse_manifest(content, hide_secrets(where))
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    _check_local_tars(folder, shards)

    trust(url, mounted.cache_folder)
    before = _read(folder / NAME, JSON_BYTES)
    if before == content and all(index_path(folder / shard.name).exists() for shard in shards):
        mounted.save()
        logger.info("%s: the shards at %s are those that were mounted", folder, hide_secrets(url))
        return manifest
    if before not in (None, content):
        _say_what_changed(folder, shards, url)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).unlink(missing_ok=True)  # the old one must not stand beside new indexes
    mounted.save()
    _fetch_indexes(mounted, shards, len(manifest.classes))
    write_atomically(folder / NAME, content)
    return manifest


def trust_mount(folder: Path) -> Mount:
    """Allow a mounted folder that comes from somebody else: from now on, this user's programs fetch tars from its URL.

    Raises:
        XmrError: it is not mounted; it needs more than to be trusted (other protocols); or what is allowed cannot be
            noted.
    """
    mounted = load_mount(folder)
    if mounted is None:
        raise XmrError(f"{folder} is not mounted (there is no {REMOTE} in it); nothing needs to be allowed")
    _check_plain(mounted)
    trust(mounted.url, mounted.cache_folder)
    return mounted


def default_cache() -> Path:
    """A folder of this node and user."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may have no name for its user
        user = str(os.getuid())
    return Path(tempfile.gettempdir()) / f"xmr_e2e-{user}"


# What comes from elsewhere


def _check_trusted(mounted: Mount) -> None:
    """Raise XmrError where the user has not allowed the URL and the cache of a folder: somebody else may have chosen
    them, and each is a way to reach what only the user can."""
    if is_trusted(mounted.url, mounted.cache_folder):
        return
    _check_plain(mounted)
    cache = f", kept in {mounted.cache_folder}" if mounted.cache_folder else ""
    raise XmrError(
        f"{mounted.folder}: its tars would be fetched from {hide_secrets(mounted.url)}{cache}. Each user allows that "
        f"once, since such a folder may come from anybody. If you trust it: "
        f"`{shell('xmr', 'shards', 'trust', mounted.folder)}`, which notes it in {permissions_folder()}"
    )


def _check_plain(mounted: Mount) -> None:
    """Raise XmrError where a URL does more than to name bytes, and the user has not mounted it."""
    if is_plain_store(mounted.url) or is_trusted(mounted.url, mounted.cache_folder):
        return
    protocol = protocol_of(mounted.url)
    raise XmrError(
        f"{hide_secrets(mounted.url)}: {protocol}:// is not among the protocols that are read without being asked for "
        f"({', '.join(PROTOCOLS)}). If you trust it: `{_mount_command(mounted)} --allow-protocol {protocol}`"
    )


def _mount_command(mounted: Mount) -> str:
    """For a shell, whatever is in the URL and in the names of folders."""
    words = ["xmr", "shards", "mount", hide_secrets(mounted.url), str(mounted.folder)]
    if mounted.cache_folder:
        words += ["--cache", str(mounted.cache_folder)]
    words += ["--cache-gb", str(mounted.cache_bytes / 1e9)]
    return shell(*words)


# The folder


def _read(path: Path, most: int) -> bytes | None:
    """A file that may be there; None for what only looks like one."""
    with suppress(FileNotFoundError, XmrError):
        return read_bytes(path, most=most)
    return None


def _check_place(folder: Path) -> None:
    if (folder / REMOTE).exists():
        return
    if any((folder / name).exists() for name in (NAME, BUILD_DIR, EXTEND_DIR)):
        raise XmrError(f"{folder} holds shards of its own; mount into another folder")


def _check_local_tars(folder: Path, shards: list[Shard]) -> None:
    for shard in shards:
        tar = folder / shard.name
        if tar.exists() and tar.stat().st_size != shard.bytes:
            raise XmrError(f"{tar} would stand for the remote one, and has another size; move it away")


def _say_what_changed(folder: Path, shards: list[Shard], url: str) -> None:
    before: set[Shard] = set()
    with suppress(XmrError):  # of another version of the format
        before = {shard for split in load_manifest(folder).splits.values() for shard in split.shards}
    logger.warning(
        "%s: the dataset at %s has changed since it was mounted: %d of its %d shards are new; runs that began on the "
        "old one cannot be resumed on this one", folder, hide_secrets(url), len(set(shards) - before), len(shards),
    )  # fmt: skip


def _fetch_indexes(mounted: Mount, shards: list[Shard], classes: int) -> None:
    """All indexes; those of shards that are no more are removed."""
    keep = {index_path(mounted.folder / shard.name) for shard in shards}
    for path in mounted.folder.glob("*.index.safetensors"):
        if path not in keep:
            path.unlink()

    def fetch_index(shard: Shard) -> None:
        path = index_path(mounted.folder / shard.name)
        url = url_of(mounted.url, path.name)
        write_atomically(path, fetch_bytes(url, most=min(most_index_bytes(shard.samples), INDEX_BYTES)))
        try:
            load_index(mounted.folder / shard.name, shard, classes)
        except XmrError as error:
            raise XmrError(f"{hide_secrets(url)}: {error}. Were the shards being built again there?") from error

    # Threads: they wait for the network, most of all.
    with ThreadPoolExecutor(INDEXES_AT_ONCE) as pool:
        done = pool.map(fetch_index, shards)
        map_shards(lambda _: next(done), shards, sizes=[1] * len(shards), title="fetching indexes", workers=1)
