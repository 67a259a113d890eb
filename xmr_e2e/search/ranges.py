"""Parts of a file, as players of sounds and videos ask for them (RFC 9110, section 14)."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.responses import Response

_RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{1,15})?|-([0-9]{1,15}))", re.ASCII)


def ranged(content: bytes, media_type: str, asked: str | None) -> Response:
    """All of a file, or the part that a Range header asks for; all where it asks for several, or cannot be read.

    Raises:
        HTTPException: 416, the file has no such part.
    """
    headers = {"Accept-Ranges": "bytes"}
    found = _RANGE.fullmatch(asked or "")
    if not found:
        return Response(content, media_type=media_type, headers=headers)
    size, (first, last, ending) = len(content), found.groups()
    begin = max(0, size - int(ending)) if ending else int(first)
    end = min(size, int(last) + 1) if last else size
    if begin >= end:
        raise HTTPException(416, f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return Response(content[begin:end], 206, headers, media_type)
