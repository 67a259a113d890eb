"""Contact sheets: a grid of thumbnails with text beneath, to look at data and at search results."""

from __future__ import annotations

import base64
import html
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from xmr_e2e.escape import on_page
from xmr_e2e.files import write_atomically
from xmr_e2e.fonts import describe_missing, font_for
from xmr_e2e.shards.media import PILLOW_MAX_PIXELS, decode_rgb, save_picture

logger = logging.getLogger(__name__)

TILE = 240
"""Width of a tile, in pixels."""
PICTURE = (TILE, 180)
MARGIN = 20
FRAME = 5
FONT_SIZE = 13
LINE, GAP = 17, 6
"""Height of a line, and of the gap between paragraphs."""
BASELINE = 13
"""of a line, from its top: the same one for all fonts"""
TEXT_LINES = 12
MOST_OF_TITLE, MOST_OF_TEXT = 500, 5000
"""characters; more would fill pictures of any size, and take seconds to be wrapped"""
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


def tile_picture(data: bytes, *, mark: str | None = None) -> Image.Image:
    """A picture as small as a tile shows it: a sheet holds all its pictures, and each may have been made to be large.

    mark: the tile's.

    Raises:
        UnusableImage: it cannot be decoded.
    """
    return _contained(decode_rgb(data, max_pixels=PILLOW_MAX_PIXELS), mark)


def write_sheet(path: Path, tiles: Sequence[Tile], *, columns: int = 6, heading: str = "") -> None:
    """Save a contact sheet as a picture; where no font has characters of its texts, as a page of HTML beside it, too.

    Raises:
        XmrError: the sheet is too large for pictures of this kind.
        OSError: a file cannot be written; has the file's name.
    """
    tiles, heading = [*map(_as_shown, tiles)], _shown(heading, MOST_OF_TITLE)
    save_picture(contact_sheet(tiles, columns=columns, heading=heading), path)
    texts = [(heading, True), *((tile.title, True) for tile in tiles), *((tile.text, False) for tile in tiles)]
    missing = frozenset[str]().union(*(font_for(text, bold=bold).missing for text, bold in texts))
    if missing:
        page = path.with_suffix(".html")
        write_atomically(page, _page(tiles, heading).encode())
        logger.warning("%s: boxes in %s; %s shows all", describe_missing(missing), path, page)


def _as_shown(tile: Tile) -> Tile:
    image = tile.image if isinstance(tile.image, Image.Image) else _shown(tile.image, MOST_OF_TITLE)
    return replace(tile, image=image, title=_shown(tile.title, MOST_OF_TITLE), text=_shown(tile.text, MOST_OF_TEXT))


def _shown(text: str, most: int) -> str:
    """Text of others as a picture and a page may have it; labels and captions can be of any length."""
    return on_page(text if len(text) <= most else f"{text[:most]}…")


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 6, heading: str = "") -> Image.Image:
    """Draw the tiles row by row, each row as high as its longest text needs; each text in a font that has it."""
    columns = max(1, min(columns, len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [PICTURE[1] + LINE // 2 + max(_height(_title(tile) + _text(tile)) for tile in row) for row in rows]
    head = list(_wrap(heading, _font(heading, bold=True), columns * (TILE + MARGIN) - MARGIN))
    top = MARGIN + (_height(head) + MARGIN if head else 0)
    size = (MARGIN + columns * (TILE + MARGIN), top + sum(heights) + MARGIN * max(1, len(rows)))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, MARGIN), head, _font(heading, bold=True), INK)
    for row, height in zip(rows, heights):
        for column, tile in enumerate(row):
            _draw_tile(sheet, draw, tile, (MARGIN + column * (TILE + MARGIN), top))
        top += height + MARGIN
    return sheet


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int]) -> None:
    left, top = corner
    right, bottom = left + PICTURE[0], top + PICTURE[1]
    draw.rectangle((left, top, right - 1, bottom - 1), fill=CARD, outline=tile.mark, width=FRAME if tile.mark else 0)
    inner = _inner(tile.mark)
    if isinstance(tile.image, str):
        words = list(_wrap(tile.image, _font(tile.image), inner[0] - 2 * MARGIN))
        _write(draw, (left + MARGIN, top + (PICTURE[1] - _height(words)) // 2), words, _font(tile.image), PALE)
    else:
        picture = _contained(tile.image.convert("RGB"), tile.mark)
        sheet.paste(picture, (left + (PICTURE[0] - picture.width) // 2, top + (PICTURE[1] - picture.height) // 2))
    title = _title(tile)
    _write(draw, (left, bottom + LINE // 2), title, _font(tile.title, bold=True), tile.mark or INK)
    _write(draw, (left, bottom + LINE // 2 + _height(title)), _text(tile), _font(tile.text), PALE)


def _inner(mark: str | None) -> tuple[int, int]:
    """Width and height that a tile has for its picture."""
    return (PICTURE[0] - 2 * FRAME, PICTURE[1] - 2 * FRAME) if mark else PICTURE


def _contained(image: Image.Image, mark: str | None) -> Image.Image:
    return ImageOps.contain(image, _inner(mark), Image.Resampling.BICUBIC)


def _height(lines: Sequence[str]) -> int:
    return sum(LINE if line else GAP for line in lines)


def _title(tile: Tile) -> list[str]:
    return _first_lines(tile.title, _font(tile.title, bold=True))


def _text(tile: Tile) -> list[str]:
    return _first_lines(tile.text, _font(tile.text))


def _first_lines(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """As many lines as a tile has room for."""
    lines = list(_wrap(text[:MOST_OF_TEXT], font, TILE))
    if len(lines) > TEXT_LINES:
        *lines, last = lines[:TEXT_LINES]
        lines.append(_shorten(last, font, TILE))
    return lines


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont,
    color: str,
) -> None:
    for number, line in enumerate(lines):
        baseline = corner[1] + _height(lines[:number]) + BASELINE
        draw.text((corner[0], baseline), line, fill=color, font=font, anchor="ls")


def _font(text: str, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    return _open_font(font_for(text, bold=bold).path)


@lru_cache
def _open_font(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, FONT_SIZE)


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


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{heading}</title>
<style>
body {{ margin: 20px; font: 13px/1.3 "DejaVu Sans", sans-serif; color: #1d2127; background: #ffffff; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, 240px); gap: 20px; }}
img, .nothing {{ display: block; width: 240px; height: 180px; object-fit: contain; background: #f1f2f4; }}
b {{ display: block; margin: 8px 0 0; overflow-wrap: anywhere; }} p {{ margin: 0 0 6px; color: #555c66; }}
</style></head>
<body><h1>{heading}</h1><main>
{tiles}
</main></body></html>
"""


def _page(tiles: Sequence[Tile], heading: str) -> str:
    """The sheet as a page, whose texts are drawn by the fonts of whoever opens it."""
    return PAGE.format(heading=html.escape(heading), tiles="\n".join(map(_tile_on_page, tiles)))


def _tile_on_page(tile: Tile) -> str:
    if isinstance(tile.image, str):
        picture = f'<div class="nothing">{html.escape(tile.image)}</div>'
    else:
        stream = io.BytesIO()
        ImageOps.contain(tile.image.convert("RGB"), PICTURE).save(stream, "JPEG")
        frame = f' style="border:{FRAME}px solid {tile.mark}"' if tile.mark else ""
        picture = f'<img{frame} alt="" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'
    paragraphs = "".join(f'<p dir="auto">{html.escape(each)}</p>' for each in tile.text.splitlines())
    return f'<div>{picture}<b dir="auto">{html.escape(tile.title)}</b>{paragraphs}</div>'
