"""Weak class labels for caption datasets that have none: a concept holds where captions use its words.

The labels come from the texts, so a text can give its own label away by a word, and a caption that calls a thing by
another word loses it. They serve to try things out, and whoever quotes a figure on them must say what they are.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from preprocessing.common.command import RawFolder, run
from preprocessing.common.json_files import Pairs, read_object
from preprocessing.flickr.files import Published, Splits, read_published
from xmr_e2e.console import Console
from xmr_e2e.data.text import tokenize
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

Concepts = dict[str, frozenset[str]]
LabelTable = dict[str, tuple[str, ...]]
TableFile = Annotated[Path, tyro.conf.arg(metavar="OUT.csv")]


def caption_labels(
    raw: RawFolder,
    out: TableFile,
    /,
    *,
    words: Path,
    at_least: int = 2,
    single: bool = False,
    splits: Splits = "karpathy",
) -> None:
    """Make a table of weak labels for Flickr8k or Flickr30k from lists of words, for preprocessing.flickr --labels.

    A concept holds for an image when at least --at-least of its captions use one of the concept's words. Such labels
    are weak: they come from the captions, so a text can give its label away by a word; the image cannot. Say so
    wherever a figure on them is quoted.

    Example: python -m preprocessing.caption_labels data/raw/flickr8k scenes.csv --words scenes.json --single

    Args:
        raw: the folder with the publisher's files, as preprocessing.flickr reads it
        out: the CSV table to write: image, split, and labels (parted by spaces; an image may have none) or label
        words: a JSON file of concepts, each with its words, such as {"dog": ["dog", "dogs"], "sea": ["sea", "wave"]};
            captions are compared word by word, without regard to case
        at_least: in how many captions of an image a concept must occur
        single: keep only images for which exactly one concept holds
        splits: those of Flickr30k, as in preprocessing.flickr
    """
    if at_least < 1:
        raise XmrError(f"--at-least must be 1 or more, not {at_least}")
    concepts = read_concepts(words)
    published = read_published(raw, splits)
    if not published.splits:
        raise XmrError(f"{published.dataset}: no splits were found; put dataset_flickr30k.json beside the captions")
    labels = label_images(published.captions, concepts, at_least=at_least)
    if single:
        labels = {image: names for image, names in labels.items() if len(names) == 1}
    _write(out, table_bytes(labels, published, single=single))
    _show(labels, concepts, published, out)


def read_concepts(path: Path) -> Concepts:
    """Concept -> its words in the form in which `tokenise` gives them.

    Raises:
        XmrError: not a JSON object of lists of words, a concept given twice, a name with a space in it (a table parts
            labels by spaces), or several words where one is wanted.
    """
    concepts = {}
    for name, words in read_object(path, _once_each(path)).items():
        where = f"{path}, {name!r}"
        if not name or name.split() != [name]:
            raise XmrError(f"{where}: a concept's name must be one word; put _ in place of spaces")
        if not isinstance(words, list) or not words:
            raise XmrError(f"{where}: wanted is a list of words")
        concepts[name] = frozenset(_word(word, where) for word in words)
    if not concepts:
        raise XmrError(f"{path} holds no concepts")
    return concepts


def _once_each(path: Path) -> Any:
    def make(pairs: Pairs) -> dict[str, Any]:
        counts = Counter(name for name, _ in pairs)
        for name, count in counts.items():
            if count > 1:
                raise XmrError(f"{path}: {name!r} is given {count} times")
        return dict(pairs)

    return make


def _word(word: object, where: str) -> str:
    tokens = tokenize(word) if isinstance(word, str) else []
    if len(tokens) != 1:
        raise XmrError(f"{where}: {word!r} is not a single word, and captions are compared word by word")
    return tokens[0]


def label_images(captions: Mapping[str, Sequence[str]], concepts: Concepts, *, at_least: int) -> LabelTable:
    """Image -> the concepts, in their order, that at least so many of its captions have a word of; images sorted."""
    labels = {}
    for image in sorted(captions):
        counts: Counter[str] = Counter()
        for caption in captions[image]:
            used = set(tokenize(caption))
            counts.update(name for name, words in concepts.items() if not words.isdisjoint(used))
        labels[image] = tuple(name for name in concepts if counts[name] >= at_least)
    return labels


def table_bytes(labels: LabelTable, published: Published, *, single: bool) -> bytes:
    """The label table as CSV (RFC 4180); images in no split have an empty one."""
    # Flickr8k's publisher calls it dev, Karpathy calls it val.
    spelling = {"val": "dev"} if published.dataset == "flickr8k" else {}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["image", "split", "label" if single else "labels"])
    for image, names in labels.items():
        split = published.splits.get(image, "")
        writer.writerow([image, spelling.get(split, split), " ".join(names)])
    return text.getvalue().encode()


def _write(out: Path, content: bytes) -> None:
    """A table that somebody may have worked on is not replaced."""
    if out.exists() and (not out.is_file() or out.read_bytes() != content):
        raise XmrError(f"{out} exists and holds something else; choose another name, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, content)


def _show(labels: LabelTable, concepts: Concepts, published: Published, out: Path) -> None:
    """Print images per concept and split, where a concept that is too rare or too frequent is seen."""
    counts = Counter((name, published.splits.get(image)) for image, names in labels.items() for name in names)
    table = Table("concept", title="Images per concept", title_justify="left")
    for split in ("train", "val", "test"):
        table.add_column(split, justify="right")
    for name in concepts:
        table.add_row(name, *(f"{counts[name, split]:,}" for split in ("train", "val", "test")))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"{len(labels):,} of {len(published.captions):,} images are in the table {out}")


if __name__ == "__main__":
    run(caption_labels)
