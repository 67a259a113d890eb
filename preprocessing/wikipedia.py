"""Wikipedia as the UCSD published it: 2,866 sections of featured articles, each with its picture, in 10 classes.

N. Rasiwasia, J. Costa Pereira, E. Coviello, G. Doyle, G. Lanckriet, R. Levy, N. Vasconcelos: A new approach to
cross-modal multimedia retrieval. ACM Multimedia 2010. Its split is 2,173 pairs to train on and 693 to test.

2173/231/462 carves a validation split from the 693, as F. Feng, X. Wang, R. Li did: Cross-modal retrieval with
correspondence autoencoder. ACM Multimedia 2014. Here as in the loaders of SDML, MARS and DRCL, the first 231 are val
and the last 462 test. But DRCL's features are in another order than the publisher's test list: class by class, its 462
test pairs are 17, 58, 62, 48, 39, 38, 32, 26, 64, 78; the last 462 of the list are 23, 55, 62, 58, 49, 40, 35, 26, 50,
64. So DRCL's very pairs cannot be recovered from the publisher's files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preprocessing.common.command import OutFolder, RawFolder, run, show_built
from preprocessing.common.layout import Layout
from preprocessing.common.published_text import read_fields
from preprocessing.common.tables import numbered_lines
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import Skipped

CATEGORIES = "categories.list"
LISTS = {"train": "trainset_txt_img_cat.list", "test": "testset_txt_img_cat.list"}
LAYOUT = Layout(
    "Wikipedia (the folder wikipedia_dataset)",
    (
        "texts/<text id>.xml                  (its <text> elements are the section's text)",
        "images/<category>/<image id>.jpg     (such as art/…)",
        f"{LISTS['train']}, {LISTS['test']}     (a line each: text id, image id, category number)",
        f"{CATEGORIES}     (the categories in the order of their numbers, from 1)",
    ),
    "Publisher: the Statistical Visual Computing Laboratory of UC San Diego, www.svcl.ucsd.edu/projects/crossmodal",
)
PUBLISHED = {"train": 2173, "test": 693}
# No slashes: the ids become file names, which may not lead out of their folder.
LIST_LINE = re.compile(r"(?P<text>[^\s/\\\0]+)\s+(?P<image>[^\s/\\\0]+)\s+(?P<number>\d{1,9})")
DRCL_NOTE = (
    "val is the first third of the publisher's test list, test the rest (231 and 462 pairs); DRCL's own 462 test pairs "
    "are others: its features are in another order, so they cannot be recovered"
)


@dataclass(frozen=True)
class Pair:
    """One line of the publisher's lists: the ids of a text and an image, and the name of their category."""

    text: str
    image: str
    category: str


def wikipedia(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    splits: Literal["2173/231/462", "2173/693"] = "2173/231/462",
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from Wikipedia, the 2,866 pairs of UC San Diego.

    RAW is the folder wikipedia_dataset: texts/, images/<category>/, trainset_txt_img_cat.list,
    testset_txt_img_cat.list, categories.list.

    Example: python -m preprocessing.wikipedia data/raw/wikipedia_dataset data/shards/wikipedia

    Args:
        raw: the folder with the publisher's files
        out: the folder to write shards and manifest.json to
        splits: train/val/test, where val is the first third of the publisher's test list; or the publisher's
            train/test, which has no validation split to select on
    """
    LAYOUT.require_folder(raw)
    for name in ("texts", "images", *LISTS.values(), CATEGORIES):
        if not (raw / name).exists():
            raise LAYOUT.error(f"{raw} holds no {name}")
    categories = read_categories(raw / CATEGORIES)
    published = read_pairs(raw, categories)
    carved = splits == "2173/231/462"
    samples, skipped = _read_samples(raw, carve_validation(published) if carved else published)
    manifest = build_shards(
        out,
        dataset="wikipedia",
        classes=categories,
        samples=samples,
        skipped=skipped,
        notes=[*([DRCL_NOTE] if carved else []), *_odd_counts(published)],
        raw=raw,
        options=build,
    )
    show_built(manifest, out)


def read_categories(path: Path) -> list[str]:
    """The names of the categories, which are also the image folders'; the first is number 1.

    Raises:
        XmrError: a line without a name, a name twice, or no lines.
    """
    categories: list[str] = []
    for number, line in numbered_lines(path):
        word = re.search(r"[^\W\d_]+", line)  # a number may stand beside the name
        if word is None:
            raise XmrError(f"{path}, line {number}: {line!r} names no category")
        if word[0] in categories:
            raise XmrError(
                f"{path}, line {number}: the category {word[0]!r} is already number {categories.index(word[0]) + 1}"
            )
        categories.append(word[0])
    if not categories:
        raise XmrError(f"{path} holds no categories; wanted is one a line")
    return categories


def read_pairs(raw: Path, categories: Sequence[str]) -> dict[str, list[Pair]]:
    """Split ("train", "test") -> its pairs in the order of the publisher's list.

    Raises:
        XmrError: a line of another form, a category that does not exist, or a text listed twice, with file and line;
            or a list without lines.
    """
    pairs: dict[str, list[Pair]] = {}
    listed: dict[str, str] = {}
    for split, name in LISTS.items():
        pairs[split] = []
        for number, line in numbered_lines(raw / name):
            where = f"{raw / name}, line {number}"
            pair = _parse_pair(line, where, categories)
            if pair.text in listed:
                raise XmrError(f"{where}: the text {pair.text} is already at {listed[pair.text]}")
            listed[pair.text] = where
            pairs[split].append(pair)
        if not pairs[split]:
            raise XmrError(f"{raw / name} is empty; wanted is a line for each pair")
    return pairs


def _parse_pair(line: str, where: str, categories: Sequence[str]) -> Pair:
    match = LIST_LINE.fullmatch(line)
    if match is None:
        raise XmrError(f"{where}: wanted are a text id, an image id and a category number, not {line!r}")
    number = int(match["number"])
    if not 1 <= number <= len(categories):
        raise XmrError(f"{where}: there is no category {number}; {CATEGORIES} has 1 to {len(categories)}")
    return Pair(match["text"], match["image"], categories[number - 1])


def carve_validation(published: Mapping[str, Sequence[Pair]]) -> dict[str, Sequence[Pair]]:
    """The first third of the test list becomes val: 231 of 693."""
    third = len(published["test"]) // 3
    return {
        "train": published["train"],
        "val": published["test"][:third],
        "test": published["test"][third:],
    }


def _odd_counts(published: Mapping[str, Sequence[Pair]]) -> list[str]:
    return [
        f"{LISTS[split]}: {len(published[split])} pairs instead of {count}"
        for split, count in PUBLISHED.items()
        if len(published[split]) != count
    ]


def _read_samples(raw: Path, splits: Mapping[str, Sequence[Pair]]) -> tuple[list[RawSample], list[Skipped]]:
    samples, skipped = [], []
    for split, pairs in splits.items():
        for pair in pairs:
            try:
                text = read_article(raw / "texts" / f"{pair.text}.xml")
            except XmrError as error:
                skipped.append(Skipped(pair.text, split, str(error)))
                continue
            image = raw / "images" / pair.category / f"{pair.image}.jpg"
            sample = RawSample(source=pair.text, split=split, image=image, texts=(text,), labels=(pair.category,))
            samples.append(sample)
    return samples, skipped


def read_article(path: Path) -> str:
    """The text of a section, its <text> elements a line each.

    Raises:
        XmrError: the file cannot be read, is cut off, or holds no text.
    """
    text = "\n".join(filter(None, read_fields(path, ["text"])["text"]))
    if not text:
        raise XmrError(f"{path} has no <text>, or only empty ones")
    return text


if __name__ == "__main__":
    run(wikipedia)
