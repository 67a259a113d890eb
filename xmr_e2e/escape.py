"""Text of others, as it may stand in what is written for people: each place has characters that it obeys."""

from __future__ import annotations

import re

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""by terminals, which colour, move and hide by control characters; and in any text, what changes its direction"""


def printable(text: str) -> str:
    r"""Text as a terminal may get it: its control characters are written out, as in "\x1b"; lines and tabs stay."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    r"""`printable`, and line breaks and tabs are written out, too."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")
