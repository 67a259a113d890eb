"""Pascal Sentence as the UIUC published it: an HTML page with 1,000 images in 20 classes, five sentences each.

C. Rashtchian, P. Young, M. Hodosh, J. Hockenmaier: Collecting image annotations using Amazon's Mechanical Turk.
NAACL workshop 2010. The publisher gives no splits; papers use 40/5/5 or 40/10 images of each class, drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.common.layout import Layout
from preprocessing.common.published_text import RAW_TEXT_BYTES
from preprocessing.common.splits import draw_splits
from preprocessing.pascal_sentence.page import Entry, Page, parse_page
from preprocessing.synthetic import GENERATOR
from xmr_e2e.received import read_bytes
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.schema import IMAGE_SUFFIXES, is_litter

LAYOUT = Layout(
    "Pascal Sentence",
    (
        "index.html            (or another name in .html: the page, saved)",
        "<class>/<id>.jpg      (such as aeroplane/…)",
    ),
    "Publisher: vision.cs.uiuc.edu/pascal-sentences, which is often down. Without it, draw a synthetic set in the same "
    "layout: python -m preprocessing.synthetic RAW",
)
FRACTIONS = {"800/100/100": (0.1, 0.1), "800/200": (0.0, 0.2)}
SENTENCES = 5
LISTED = 5


def pascal_sentence(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    splits: Literal["800/100/100", "800/200"] = "800/100/100",
    seed: int = 0,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from Pascal Sentence, or from a synthetic set in its layout.

    Example: python -m preprocessing.pascal_sentence data/raw/pascal_sentence data/shards/pascal_sentence

    Args:
        raw: the folder with the page (.html) and a folder of images for each class
        out: the folder to write shards and manifest.json to
        splits: train/val/test, or train/test with val merged into test; 40/5/5 or 40/10 of the 50 images of a class,
            and the same shares of classes of other sizes
        seed: another seed draws other splits; the publisher has none
    """
    LAYOUT.require_folder(raw)
    page = _read_page(raw)
    val, test = FRACTIONS[splits]
    split_of = draw_splits({entry.source: entry.class_name for entry in page.entries}, val=val, test=test, seed=seed)
    samples = [
        RawSample(
            source=entry.source,
            split=split_of[entry.source],
            image=raw / entry.source,
            texts=tuple(entry.sentences),
            labels=(entry.class_name,),
        )
        for entry in page.entries
    ]
    manifest = build_shards(
        out,
        dataset="synthetic (Pascal Sentence layout)" if page.generator == GENERATOR else "pascal_sentence",
        classes=sorted({entry.class_name for entry in page.entries}),
        samples=samples,
        notes=[*_odd_counts(page.entries), *_not_on_page(raw, page.entries)],
        raw=raw,
        options=build,
    )
    show_built(manifest, out)


def _read_page(raw: Path) -> Page:
    """The first page with entries; index.html comes first."""
    paths = [path for path in raw.iterdir() if path.suffix.lower() in (".html", ".htm") and not is_litter(path.name)]
    if not paths:
        raise LAYOUT.error(f"{raw} holds no .html page")
    for path in sorted(paths, key=lambda path: (path.stem.lower() != "index", path.name)):
        page = parse_page(_decode(read_bytes(path, most=RAW_TEXT_BYTES)))
        if page.entries:
            return page
    names = ", ".join(sorted(path.name for path in paths))
    raise LAYOUT.error(f'{raw}: no <img src="class/id.jpg"> with a table of sentences was found in {names}')


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # what browsers take an old page without a charset for


def _odd_counts(entries: Sequence[Entry]) -> list[str]:
    return [
        f"{entry.source}: {len(entry.sentences)} sentences instead of {SENTENCES}, kept"
        for entry in entries
        if len(entry.sentences) not in (0, SENTENCES)
    ]


def _not_on_page(raw: Path, entries: Sequence[Entry]) -> list[str]:
    listed = {entry.source for entry in entries}
    images = (path for path in raw.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES and not is_litter(path.name))
    on_disk = {path.relative_to(raw).as_posix() for path in images}
    extra = sorted(on_disk - listed)
    if not extra:
        return []
    more = ", …" if len(extra) > LISTED else ""
    return [f"{len(extra)} images are not on the page and not used: {', '.join(extra[:LISTED])}{more}"]
