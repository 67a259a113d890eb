"""Fonts for texts of any script: those of this machine that have the characters, and what to install where none has."""

from __future__ import annotations

import logging
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

logger = logging.getLogger(__name__)

UNWANTED = ("italic", "oblique", "mono", "light", "thin", "black", "condensed", "serif", "semi", "medium", "demi")
"""in the names of files: kinds of a family that are taken only where there is no plain one"""
CJK_PACKAGE, SYMBOLS_PACKAGE, OTHER_PACKAGE = "fonts-noto-cjk", "fonts-symbola", "fonts-noto-core"
"""of Debian and Ubuntu"""
NAMED = 8
"""characters, in a message"""


@dataclass(frozen=True)
class Font:
    """A font file, chosen for a text."""

    path: Path
    missing: frozenset[str]
    """characters of the text that it does not have, and are drawn as boxes"""


@lru_cache(maxsize=4096)
def font_for(text: str, *, bold: bool = False) -> Font:
    """DejaVu Sans if it has all characters of a text, else an installed font that has them, or the most of them."""
    wanted = drawn_characters(text)
    best = Font(_dejavu(bold), _lacking(_dejavu(bold), wanted))
    if not best.missing:
        return best
    for path in _installed(bold):
        missing = _lacking(path, wanted)
        if len(missing) < len(best.missing):
            best = Font(path, missing)
        if not missing:
            break
    return best


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> float:
    """The width of a text at a size of the font, in the same unit."""
    from PIL import ImageFont

    return ImageFont.truetype(font_for(text).path, size).getlength(text)


def drawn_characters(text: str) -> frozenset[str]:
    """The characters of a text that show: no blanks, controls, joiners, selectors of variants, nor unassigned ones."""
    return frozenset(
        each
        for each in text
        if not each.isspace() and unicodedata.category(each)[0] != "C" and not "\ufe00" <= each <= "\ufe0f"
    )


def packages_for(characters: Iterable[str]) -> list[str]:
    """Debian's packages of fonts that have these characters."""
    return sorted({_package(each) for each in characters})


def describe_missing(characters: frozenset[str]) -> str:
    """In words, which characters no font has, and which package to install."""
    shown = " ".join(sorted(characters)[:NAMED]) + (" …" if len(characters) > NAMED else "")
    return f"no installed font has {shown} (Debian: apt install {' '.join(packages_for(characters))})"


def _package(character: str) -> str:
    if unicodedata.category(character) == "So" or 0x1F000 <= ord(character) < 0x20000:
        return SYMBOLS_PACKAGE
    return CJK_PACKAGE if unicodedata.east_asian_width(character) in "WF" else OTHER_PACKAGE


def _dejavu(bold: bool) -> Path:
    import matplotlib  # brings the font; takes too long to import for whoever draws no text

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")


@cache
def _installed(bold: bool) -> tuple[Path, ...]:
    """The fonts of this machine, plain sans-serif ones first."""
    from matplotlib.font_manager import findSystemFonts

    def rank(path: Path) -> tuple[bool, int, bool, str]:
        name = path.stem.lower()
        return ("bold" in name) != bold, sum(word in name for word in UNWANTED), "sans" not in name, str(path)

    return tuple(sorted(map(Path, findSystemFonts()), key=rank))


def _lacking(path: Path, wanted: frozenset[str]) -> frozenset[str]:
    has = _characters(path)
    return frozenset(each for each in wanted if not _is_in(ord(each), has))


def _is_in(code: int, codes: Sequence[int]) -> bool:
    place = bisect_left(codes, code)
    return place < len(codes) and codes[place] == code


@cache  # of all fonts: some hundreds are looked at for each text with a character that none of them has
def _characters(path: Path) -> Sequence[int]:
    """The codes of the characters that a font can draw at any size, ascending; none for a file that is damaged, and for
    pictures of emoji."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError) as error:
        logger.debug("%s: passed over, %s", path, error)
        return array("i")
    return array("i", sorted(font.get_charmap()) if font.scalable else [])  # a tenth of a set's memory
