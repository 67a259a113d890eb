"""The one exception for what a user can mend, and the words for what the system refuses."""

from __future__ import annotations

import errno
import os

_GOES_ON = "make room, and the same command goes on"
_REASONS = {
    errno.ENOSPC: f"the disk is full; {_GOES_ON}",
    errno.EDQUOT: f"the disk quota is used up; {_GOES_ON}",
    errno.EROFS: "the disk is mounted read-only",
}
"""In words that help more than the system's."""


class XmrError(Exception):
    """Bad input, a bad option or a missing file: the message names it and says what to do.

    Commands print the message without a traceback and exit with status 2.
    """


def describe_os_error(error: OSError) -> str:
    """File, as far as it is known, and reason in one line."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__
    if isinstance(error.filename, (str, bytes)):
        return f"{os.fsdecode(error.filename)}: {reason}"
    return reason
