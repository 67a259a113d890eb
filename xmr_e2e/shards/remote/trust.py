"""Permissions of this user: addresses that tars are fetched from, each with the folder of its cache.

It is kept with the user, and not in the folder of shards, which may come from somebody else. Each permission is a file
of its own, named after what it allows: processes that add some at the same time need no lock, what is in the file is
for people only, and to remove it takes the permission back.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.files import write_atomically
from xmr_e2e.shards.remote.address import hide_secrets


def permissions_folder() -> Path:
    """The folder in which they are kept.

    Raises:
        XmrError: the user has no home.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        raise XmrError("there is no home directory: set HOME to a folder that can be written")
    return home / ".config" / "xmr_e2e" / "trusted"


def is_trusted(url: str, cache: Path | None) -> bool:
    """True if this user has allowed to fetch from a URL and to keep it in a folder (None: the default).

    Raises:
        XmrError: the permissions cannot be looked at.
    """
    path = _permission(url, cache)
    try:
        return path.is_file()
    except OSError as error:
        raise XmrError(f"what you allow cannot be looked at: {describe_os_error(error)}") from error


def trust(url: str, cache: Path | None) -> None:
    """Allow it, from now on and for this user.

    Raises:
        XmrError: it cannot be noted.
    """
    path = _permission(url, cache)
    if is_trusted(url, cache):
        return
    note = json.dumps({"url": hide_secrets(url), "cache": cache and str(cache)}, indent=1)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, f"{note}\n".encode(errors="backslashreplace"), mode=0o600)
    except OSError as error:
        raise XmrError(
            f"what you allow cannot be noted: {describe_os_error(error)}; set HOME to a folder that can be written"
        ) from error


def _permission(url: str, cache: Path | None) -> Path:
    # As JSON, so that no two pairs are the same text.
    pair = json.dumps([url, cache and str(cache)])
    return permissions_folder() / f"{hashlib.sha256(pair.encode()).hexdigest()}.json"
