"""Damaged and hostile versions of sound files, for tests that give them to a parser.

The same ones at each run. FUZZ_EXAMPLES says how many, for each test; a long run has 20,000.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))

fuzzed: Callable[[Any], Any] = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""Decorator of a test that takes such inputs, above its `given`."""

NUMBERS = [-1, 0, 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf"), True]
WORDS = [
    "", ".", "..", "../victim", "/etc/passwd", "a/b", "a\\b", "\0", "a\nb", "\x1b]0;title\x07", "\u202e", "\ud800",
    "~", "-rf", "$(touch victim)", "`id`", "{}", "{{7*7}}", "os:system", "http://127.0.0.1:9/", "pipe:touch victim",
    "file:///etc/passwd", "x" * 300, "x" * 100_000,
]  # fmt: skip
VALUES: list[Any] = [*NUMBERS, *WORDS, None, [], {}, [[]], [{}], {"": None}, [None] * 1000]
RAW = [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"",
    b"\0" * 4096,
    b'"\\ud800"',
    b"9" * 10_000,
]


@st.composite
def damaged(draw: st.DrawFn, *samples: bytes) -> bytes:
    """One of the samples with some of its bytes changed, cut, doubled or pushed in."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 1, 2, 4, 8, 16, 64, 512]))
        match draw(st.sampled_from(["set", "set", "flip", "insert", "remove", "cut", "double"])):
            case "set":
                value = draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"\x7f", b"9", b"-", b"/", b" "]))
                data[place : place + size] = value * len(data[place : place + size])
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=size))
            case "remove":
                del data[place : place + size]
            case "cut":
                del data[place:]
            case "double":
                data[place:place] = data[place : place + size]
    return bytes(data)


@st.composite
def hostile_json(draw: st.DrawFn, *documents: Any) -> bytes:
    """One of the documents as JSON, in which some values are others, missing, renamed or added."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from(RAW))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        match draw(st.sampled_from(["set", "set", "set", "remove", "rename", "deepen"])):
            case "set":
                holder[key] = value
            case "remove":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.sampled_from(WORDS))] = holder.pop(key)
            case "deepen":
                for _ in range(draw(st.sampled_from([1, 5, 150, 900]))):
                    value = [value]
                holder[key] = value
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    return text.encode(errors="surrogatepass")


def hostile(*documents: Any) -> st.SearchStrategy[bytes]:
    """Both: values that are others, and bytes that are."""
    return st.one_of(hostile_json(*documents), damaged(*(json.dumps(document).encode() for document in documents)))


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(document, dict):
        items: Any = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    else:
        return
    for key, value in items:
        yield document, key
        yield from _places(value)
