"""`xmr shards mount` and `trust`."""

from __future__ import annotations

from pathlib import Path

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError


def mount_command(
    url: str,
    folder: Path,
    /,
    *,
    cache: Path | None = None,
    cache_gb: float = 100,
    allow_protocol: str | None = None,
) -> None:
    """Make a folder of shards whose tars stay at a URL, and are fetched when they are needed. Run again, it brings the
    folder up to date.

    Args:
        url: of the folder with manifest.json: https://, s3://, …; or with {} where a file's name goes
        folder: the folder to make; it is then given as any folder of shards
        cache: folder of a node's disk for the tars that were fetched; by default xmr_e2e-USER in its temporary folder
        cache_gb: size of the cache in 10^9 bytes; the tars that were not used for longest make room for others
        allow_protocol: the protocol of the URL where it has to be allowed, such as hf or abfs
    """
    from xmr_e2e.shards.info import describe
    from xmr_e2e.shards.remote.address import hide_secrets
    from xmr_e2e.shards.remote.mount import mount

    if not 0 < cache_gb < float("inf"):
        raise XmrError(f"--cache-gb {cache_gb:g} must be a number above 0")
    manifest = mount(url, folder, cache=cache, cache_bytes=round(cache_gb * 1e9), allowed=allow_protocol)
    console = Console(highlight=False, soft_wrap=True)
    console.print(describe(manifest))
    size = sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
    console.print(f"mounted: {folder}; the tars, {size / 1e6:,.1f} MB, stay at {hide_secrets(url)}")
    if size > cache_gb * 1e9:
        console.print(
            f"--cache-gb {cache_gb:g} does not hold all of them: what is evicted is fetched again in each epoch"
        )


def trust_command(folder: Path, /) -> None:
    """Allow a mounted folder that somebody else has made: tars are then fetched from its URL, for you. A folder that
    you have mounted yourself needs no such permission.

    Args:
        folder: the folder with remote.json
    """
    from xmr_e2e.shards.remote.address import hide_secrets
    from xmr_e2e.shards.remote.mount import trust_mount

    mounted = trust_mount(folder)
    kept = f", kept in {mounted.cache_folder}" if mounted.cache_folder else ""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"allowed: the tars of {folder} are fetched from {hide_secrets(mounted.url)}{kept}")
