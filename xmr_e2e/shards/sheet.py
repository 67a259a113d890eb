"""Contact sheets: a grid of thumbnails with text beneath, to look at data and at search results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE = 240
"""Width of a tile, in pixels."""
PICTURE = (TILE, 180)
MARGIN = 20
FRAME = 5
FONT_SIZE = 13
LINE, GAP = 17, 6
"""Height of a line, and of the gap between paragraphs."""
TEXT_LINES = 12
PAPER, CARD, INK, PALE = "#ffffff", "#f1f2f4", "#1d2127", "#555c66"


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, a title and a text beneath it, both wrapped; a line break begins a new paragraph."""

    image: Image.Image | str
    """the picture, or words that stand in its place"""
    title: str
    text: str
    mark: str | None = None
    """colour of a frame around the picture and of the title, such as "#2e7d32" for a right answer"""


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 6, heading: str = "") -> Image.Image:
    """Draw the tiles row by row, each row as high as its longest text needs.

    Text may hold whatever DejaVu Sans has: Latin, Greek, Cyrillic, Hebrew, Arabic; other scripts show as boxes.
    """
    columns = max(1, min(columns, len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [PICTURE[1] + LINE // 2 + max(_height(_title(tile) + _text(tile)) for tile in row) for row in rows]
    head = list(_wrap(heading, _font(bold=True), columns * (TILE + MARGIN) - MARGIN))
    top = MARGIN + (_height(head) + MARGIN if head else 0)
    size = (MARGIN + columns * (TILE + MARGIN), top + sum(heights) + MARGIN * max(1, len(rows)))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, MARGIN), head, _font(bold=True), INK)
    for row, height in zip(rows, heights):
        for column, tile in enumerate(row):
            _draw_tile(sheet, draw, tile, (MARGIN + column * (TILE + MARGIN), top))
        top += height + MARGIN
    return sheet


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int]) -> None:
    left, top = corner
    right, bottom = left + PICTURE[0], top + PICTURE[1]
    draw.rectangle((left, top, right - 1, bottom - 1), fill=CARD, outline=tile.mark, width=FRAME if tile.mark else 0)
    inner = (PICTURE[0] - 2 * FRAME, PICTURE[1] - 2 * FRAME) if tile.mark else PICTURE
    if isinstance(tile.image, str):
        words = list(_wrap(tile.image, _font(), inner[0] - 2 * MARGIN))
        _write(draw, (left + MARGIN, top + (PICTURE[1] - _height(words)) // 2), words, _font(), PALE)
    else:
        picture = ImageOps.contain(tile.image.convert("RGB"), inner, Image.Resampling.BICUBIC)
        sheet.paste(picture, (left + (PICTURE[0] - picture.width) // 2, top + (PICTURE[1] - picture.height) // 2))
    title = _title(tile)
    _write(draw, (left, bottom + LINE // 2), title, _font(bold=True), tile.mark or INK)
    _write(draw, (left, bottom + LINE // 2 + _height(title)), _text(tile), _font(), PALE)


def _height(lines: Sequence[str]) -> int:
    return sum(LINE if line else GAP for line in lines)


def _title(tile: Tile) -> list[str]:
    return list(_wrap(tile.title, _font(bold=True), TILE))


def _text(tile: Tile) -> list[str]:
    lines = list(_wrap(tile.text, _font(), TILE))
    if len(lines) > TEXT_LINES:
        *lines, last = lines[:TEXT_LINES]
        lines.append(_shorten(last, _font(), TILE))
    return lines


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont,
    colour: str,
) -> None:
    for number, line in enumerate(lines):
        draw.text((corner[0], corner[1] + _height(lines[:number])), line, fill=colour, font=font)


@lru_cache
def _font(*, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # brings the fonts; takes too long to import for whoever only reads shards

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, FONT_SIZE)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """Lines no wider than `width` pixels, with an empty one between paragraphs.

    Broken at spaces, and within a word only where it does not fit alone.
    """
    for number, paragraph in enumerate(text.splitlines()):
        if number:
            yield ""
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if font.getlength(longer) <= width:
                line = longer
                continue
            if line:
                yield line
            *whole, line = _pieces(word, font, width)
            yield from whole
        if line:
            yield line


def _pieces(word: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _shorten(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while line and font.getlength(f"{line} …") > width:
        line = line.rpartition(" ")[0] or line[:-1]
    return f"{line} …".strip()
