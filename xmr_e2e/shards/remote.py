"""Folders of shards whose tars stay where they are, at a URL.

`mount` makes such a folder: manifest and indexes, and `remote.json`, which says where the tars lie. From then on it is
a folder of shards as any other; what needs a tar gets it with `open_tar`, which fetches it into the node's cache.

What comes from a URL is not trusted: names and checksums are looked at before anything is done with them, and a command
(`pipe:`) runs only for the user who has allowed it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pwd
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.files import write_atomically
from xmr_e2e.shards.cache import Cache
from xmr_e2e.shards.fetch import PIPE, Failed, check_url, fetch, url_of
from xmr_e2e.shards.index import ShardIndex, index_path, load_index
from xmr_e2e.shards.manifest import (
    EXTENSION,
    NAME,
    REMOTE,
    WORKSHOP,
    Manifest,
    Shard,
    load_manifest,
    parse_manifest,
    shard_file,
)
from xmr_e2e.shards.parallel import map_shards

INDEXES_AT_ONCE = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mount:
    """Where the tars of a mounted folder come from, and where their copies are kept."""

    folder: Path
    url: str
    cache_folder: Path | None
    """None: a folder of each node and user, `default_cache`"""
    cache_bytes: int

    def save(self) -> None:
        document = {
            "url": self.url,
            "cache": self.cache_folder and str(self.cache_folder),
            "cache_bytes": self.cache_bytes,
        }
        content = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()
        path = self.folder / REMOTE
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)

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
        _check_shard(shard, self.folder)
        _check_pipe(self.url, self.folder)
        _make_cache(self.cache.folder, private=self.cache_folder is None)
        return self.cache.open(shard, lambda file: self._fetch(shard, file))

    def _fetch(self, shard: Shard, file: BinaryIO) -> None:
        url = url_of(self.url, shard.name)
        logger.info("fetching %s, %.1f MB", url, shard.bytes / 1e6)

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
    advice = "; if the shards were built anew there, mount them again"
    if size < shard.bytes:
        raise Failed(f"ended after {size:,} bytes; the manifest says {shard.bytes:,}{advice}")
    if size > shard.bytes:
        raise Failed(f"more than the {shard.bytes:,} bytes that the manifest says{advice}")
    if sha256 != shard.sha256:
        raise Failed(f"the sha256 is not the manifest's{advice}")


def load_mount(folder: Path) -> Mount | None:
    """Where a folder's tars come from; None if it is not mounted. Raises XmrError when `remote.json` is damaged."""
    try:
        document = json.loads((folder / REMOTE).read_bytes())
        cache = document["cache"]
        return Mount(folder, str(document["url"]), None if cache is None else Path(cache), int(document["cache_bytes"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise XmrError(f"{folder / REMOTE}: not valid ({error!r}); run `xmr shards mount` again") from error


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


def mount(url: str, folder: Path, *, cache: Path | None, cache_bytes: int, allow_pipe: bool = False) -> Manifest:
    """Make `folder` a folder of the shards at `url`, without their tars; or bring it up to date.

    Args:
        url: of the folder of shards; or with {} where a file's name goes, as in a `pipe:` command.
        cache: where the tars are kept that have been fetched; None for `default_cache`.
        cache_bytes: how much they may take together.
        allow_pipe: whether the command of a `pipe:` URL may run, now and when tars are needed.

    Raises:
        XmrError: a URL that is no use, a folder that holds shards of its own, or remote shards that cannot be fetched
            or are not sound.
    """
    check_url(url)
    if url.startswith(PIPE) and allow_pipe:
        _allow_pipe(url)
    _check_pipe(url, folder)
    _check_place(folder)
    where = url_of(url, NAME)
    content = fetch(where, b"".join)
    manifest = parse_manifest(content, where)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    _check_shards(shards, where)
    _check_local_tars(folder, shards)

    mounted = Mount(folder, url, cache and cache.absolute(), cache_bytes)
    before = (folder / NAME).read_bytes() if (folder / NAME).exists() else None
    if before == content and all(index_path(folder / shard.name).exists() for shard in shards):
        mounted.save()
        logger.info("%s: the shards at %s are those that were mounted", folder, url)
        return manifest
    if before not in (None, content):
        _say_what_changed(folder, shards, url)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).unlink(missing_ok=True)  # the old one must not stand beside new indexes
    mounted.save()
    _fetch_indexes(mounted, shards)
    write_atomically(folder / NAME, content)
    return manifest


def default_cache() -> Path:
    """A folder of this node and user."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may have no name for its user
        user = str(os.getuid())
    return Path(tempfile.gettempdir()) / f"xmr_e2e-{user}"


def _make_cache(folder: Path, *, private: bool) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stat = folder.lstat()
    except OSError as error:
        raise XmrError(f"{folder}: cannot be made: {error.strerror}; mount again with another --cache") from error
    # In a folder that everybody may write to, somebody else may have been first.
    if private and (stat.st_uid != os.getuid() or stat.st_mode & 0o077):
        raise XmrError(f"{folder} is not a folder of yours alone, with mode 0700; mount again with another --cache")


# What comes from elsewhere


def _check_shards(shards: list[Shard], where: str) -> None:
    for shard in shards:
        _check_shard(shard, where)
    if len({shard.name for shard in shards}) < len(shards):
        raise XmrError(f"{where}: two shards have the same name")


def _check_shard(shard: Shard, where: object) -> None:
    """Names become paths, parts of URLs and of shell commands; sizes and checksums, files in the cache."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar", str(shard.name)) or ".." in shard.name:
        raise XmrError(f"{where}: the shard's name {shard.name!r} is not a plain one: letters, digits, _, - and .")
    if not re.fullmatch("[0-9a-f]{64}", str(shard.sha256)):
        raise XmrError(f"{where}: {shard.name}: {shard.sha256!r} is not a sha256")
    if type(shard.bytes) is not int or type(shard.samples) is not int or min(shard.bytes, shard.samples) < 1:
        raise XmrError(f"{where}: {shard.name}: {shard.bytes!r} bytes, {shard.samples!r} samples")


def _check_index(index: ShardIndex, shard: Shard, url: str) -> None:
    outside = any((spans.max(axis=1) > shard.bytes).any() or (spans.sum(axis=1) > shard.bytes).any()
                  for spans in index.members.values())  # fmt: skip
    if len(index) != shard.samples or outside:
        raise XmrError(f"{url}: the index is not of the shard that the manifest names; were they being built anew?")


def _allowed_pipes() -> Path:
    return Path.home() / ".config" / "xmr_e2e" / "allowed_pipes.json"


def _allow_pipe(url: str) -> None:
    """Kept with the user and not in the folder, which may come from somebody else."""
    path = _allowed_pipes()
    path.parent.mkdir(parents=True, exist_ok=True)
    allowed = json.loads(path.read_bytes()) if path.exists() else []
    write_atomically(path, json.dumps(sorted({*allowed, url}), indent=1).encode())


def _check_pipe(url: str, folder: Path) -> None:
    if not url.startswith(PIPE):
        return
    path = _allowed_pipes()
    if not path.exists() or url not in json.loads(path.read_bytes()):
        raise XmrError(
            f"{url}: this is a command that would run on this machine. If you trust it: "
            f"`{shell('xmr', 'shards', 'mount', url, folder, '--allow-pipe')}`"
        )


# The folder


def _check_place(folder: Path) -> None:
    if (folder / REMOTE).exists():
        return
    if any((folder / name).exists() for name in (NAME, WORKSHOP, EXTENSION)):
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
        "old one cannot be resumed on this one", folder, url, len(set(shards) - before), len(shards),
    )  # fmt: skip


def _fetch_indexes(mounted: Mount, shards: list[Shard]) -> None:
    """All indexes; those of shards that are no more are removed."""
    keep = {index_path(mounted.folder / shard.name) for shard in shards}
    for path in mounted.folder.glob("*.index.safetensors"):
        if path not in keep:
            path.unlink()

    def fetch_index(shard: Shard) -> None:
        path = index_path(mounted.folder / shard.name)
        url = url_of(mounted.url, path.name)
        write_atomically(path, fetch(url, b"".join))
        _check_index(load_index(mounted.folder / shard.name), shard, url)

    # Threads: they wait for the network, most of all.
    with ThreadPoolExecutor(INDEXES_AT_ONCE) as pool:
        done = pool.map(fetch_index, shards)
        map_shards(lambda _: next(done), shards, sizes=[1] * len(shards), title="fetching indexes", workers=1)
