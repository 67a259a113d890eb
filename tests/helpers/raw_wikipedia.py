"""Wikipedia's layout, in miniature."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.built import image_bytes, write

NAMES = ["art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport", "warfare"]
TRAIN, TEST = 20, 9
ARTICLE = '<?xml version="1.0"?>\n<document name="{name}">\n<imageset><image id="x"/></imageset>\n{body}\n</document>\n'


def text_id(number: int) -> str:
    return f"{number:032x}-{number % 7}.{number % 3}"


def xml_of(raw: Path, number: int) -> Path:
    return raw / "texts" / f"{text_id(number)}.xml"


def image_of(raw: Path, number: int) -> Path:
    return raw / "images" / NAMES[number % 10] / f"img{number:04d}.jpg"


def wikipedia_raw(raw: Path) -> Path:
    """20 training and 9 test pairs; pair n is of category n % 10 + 1. The test list is not in the order of its ids."""
    write(raw / "categories.list", "\n".join(NAMES) + "\n")
    lines = []
    for number in range(TRAIN + TEST):
        body = f"<text>\nSection {number} is about {NAMES[number % 10]}.\n</text>"
        write(xml_of(raw, number), ARTICLE.format(name=number, body=body))
        write(image_of(raw, number), image_bytes())
        lines.append(f"{text_id(number)}\timg{number:04d}\t{number % 10 + 1}\n")
    write(raw / "trainset_txt_img_cat.list", "".join(lines[:TRAIN]))
    write(raw / "testset_txt_img_cat.list", "".join(reversed(lines[TRAIN:])))
    return raw
