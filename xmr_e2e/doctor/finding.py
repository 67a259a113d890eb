"""Findings of `xmr doctor`: the lines of its table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.filesize import decimal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """one or two words"""
    text: str
    """the finding and, unless all is well, what to do about it"""
    level: Literal["ok", "note", "problem"] = "ok"
    """a note may cost time or be meant; with a problem, the training fails or wastes what it is given"""


def note(about: str, text: str) -> Finding:
    return Finding(about, text, "note")


def problem(about: str, text: str) -> Finding:
    return Finding(about, text, "problem")


def counted(number: int, noun: str) -> str:
    """Such as 1 process, 2 processes."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def in_words(count: float) -> str:
    """A number of bytes for a person, such as 1.3 GB; decimal, as disks are sold."""
    return decimal(round(count))
