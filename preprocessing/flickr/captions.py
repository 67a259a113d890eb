"""The caption files of Flickr8k and Flickr30k."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from preprocessing.common.tables import numbered_lines
from xmr_e2e.errors import XmrError

TOKEN_LINE = re.compile(r"(?P<image>[^\t]+)#(?P<number>\d{1,9})\t(?P<caption>.*)")
CSV_LINE = re.compile(r"(?P<image>[^|]+)\|\s*(?P<number>\d{1,9})\s*\|(?P<caption>.*)")
NUMBERED_NAME = re.compile(r"(?P<name>.+\.jpg)\.\d+", re.IGNORECASE)
LISTED = 5


def read_captions(path: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Image name -> captions in the order of their numbers, and notes about lines that were repaired or left out.

    Reads `image#number<TAB>caption` and, from a .csv, `image| number| caption` with a header.

    Raises:
        XmrError: no line has that form.
    """
    pattern = CSV_LINE if path.suffix == ".csv" else TOKEN_LINE
    numbered: dict[str, dict[int, str]] = {}
    odd_lines = []
    for line_number, line in numbered_lines(path):
        match = pattern.fullmatch(line)
        if match:
            captions = numbered.setdefault(match["image"].strip(), {})
            captions.setdefault(int(match["number"]), match["caption"].strip())
        elif not (line_number == 1 and line.startswith("image_name")):
            odd_lines.append(line_number)
    if not numbered:
        raise XmrError(f"{path}: no line has the form of a caption, such as {_example(pattern)!r}")
    named, renamed = _without_numbered_names(numbered)
    in_order = {image: tuple(captions[number] for number in sorted(captions)) for image, captions in named.items()}
    return in_order, [*_lines_left_out(path, odd_lines), *renamed]


def _lines_left_out(path: Path, lines: Sequence[int]) -> list[str]:
    notes = [f"{path.name}, line {number}: no caption line, left out" for number in lines[:LISTED]]
    if len(lines) > LISTED:
        notes.append(f"{path.name}: {len(lines) - LISTED} more lines left out")
    return notes


def _example(pattern: re.Pattern[str]) -> str:
    return "1.jpg| 0| A dog runs ." if pattern is CSV_LINE else "1.jpg#0\tA dog runs ."


def _without_numbered_names(numbered: dict[str, dict[int, str]]) -> tuple[dict[str, dict[int, str]], list[str]]:
    """A few names in the token file are `x.jpg.1`: they mean `x.jpg`, unless that has captions of its own."""
    named, notes = {}, []
    for image, captions in numbered.items():
        match = NUMBERED_NAME.fullmatch(image)
        if match is None:
            named[image] = captions
        elif match["name"] in numbered:
            notes.append(f"captions of {image} left out: {match['name']} has its own")
        else:
            named[match["name"]] = captions
            notes.append(f"captions of {image} taken for {match['name']}")
    return named, notes
