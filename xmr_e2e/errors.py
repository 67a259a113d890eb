"""The one exception for what a user can mend."""

from __future__ import annotations


class XmrError(Exception):
    """Bad input, a bad option or a missing file: the message names it and says what to do.

    Commands print the message without a traceback and exit with status 2.
    """
