"""The command that writes drawn pictures and the page that lists them, or a set of five modalities and its table."""

from __future__ import annotations

import html
import os
import shutil
from functools import partial
from pathlib import Path
from random import Random

from preprocessing.common.command import OutFolder
from preprocessing.synthetic import GENERATOR
from preprocessing.synthetic.five_media import write_five
from preprocessing.synthetic.picture import KINDS, draw_picture
from preprocessing.synthetic.sentences import describe
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.parallel import CPUS, map_shards

PAGE = f"""<html><head>
<meta charset="utf-8">
<meta name="generator" content="{GENERATOR}">
<title>Synthetic Pascal Sentence layout: drawn pictures, no photographs</title>
</head><body>
<h1>Synthetic Pascal Sentence layout: drawn pictures, no photographs</h1>
<table border="0">
%s
</table>
</body></html>
"""


def synthetic(
    out: OutFolder,
    /,
    *,
    five: bool = False,
    paired: bool = False,
    per_class: int = 50,
    size: tuple[int, int] = (240, 180),
    seed: int = 0,
    workers: int = CPUS,
) -> None:
    """Draw a synthetic raw set in the layout of the UIUC Pascal Sentence page.

    20 classes of drawn scenes, each with five sentences; needs no network. Build shards from it with
    preprocessing.pascal_sentence.

    With --five, another set of 4 classes: pictures, sentences, sounds (WAV), films (MP4) and meshes (OFF), by each of
    which a class can be told. Build shards from it with preprocessing.folder.

    Example: python -m preprocessing.synthetic data/raw/synthetic --per-class 50

    Args:
        out: the folder to write, which must not hold anything yet
        five: make the set of five modalities
        paired: with --five, samples that have all five modalities; without it, each has one
        per_class: pictures of each class; with --five, samples of each class and modality
        size: width and height in pixels
        seed: another seed draws another set; the same seed gives the same bytes
        workers: processes that draw, which change no byte
    """
    if paired and not five:
        raise XmrError("--paired is of the set of five modalities: add --five")
    if per_class < 1:
        raise XmrError(f"--per-class must be at least 1, not {per_class}")
    if min(size) < 48:
        raise XmrError(f"--size must be at least 48 by 48 pixels, not {size[0]} by {size[1]}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise XmrError(f"{out} already exists and is not empty; remove it or choose another folder")
    # The set grows beside its place, so that one that was interrupted is never taken for whole.
    place = out.resolve()
    growing = place.with_name(place.name + ".partial")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    if five:
        count = write_five(growing, per_class=per_class, size=size, seed=seed, paired=paired, workers=workers)
        message = f"{count:,} synthetic samples of five modalities made: {out / 'table.jsonl'}"
    else:
        count = _write_pascal(growing, per_class=per_class, size=size, seed=seed, workers=workers)
        message = f"{count:,} synthetic pictures drawn: {out / 'index.html'}"
    os.replace(growing, place)
    Console().print(message, highlight=False, soft_wrap=True)


def _write_pascal(folder: Path, *, per_class: int, size: tuple[int, int], seed: int, workers: int) -> int:
    """Write the pictures and the page that lists them; return their number."""
    tasks = [(name, range(per_class)[start : start + 10]) for name in KINDS for start in range(0, per_class, 10)]
    draw = partial(_draw, folder, size, seed)
    sizes = [len(indices) for _, indices in tasks]
    rows = map_shards(draw, tasks, sizes=sizes, title="drawing pictures", workers=workers)
    (folder / "index.html").write_text(PAGE % "\n".join(rows), encoding="utf-8")
    return sum(sizes)


def _draw(folder: Path, size: tuple[int, int], seed: int, task: tuple[str, range]) -> str:
    """Draw some pictures of one class; return their rows of the page, each with a nested table of sentences."""
    name, indices = task
    (folder / name).mkdir(exist_ok=True)
    rows = []
    for index in indices:
        picture, data = draw_picture(name, index, size=size, seed=seed)
        source = f"{name}/synthetic_{index:06d}.jpg"
        (folder / source).write_bytes(data)
        cells = (f"<tr><td>{html.escape(told)}</td></tr>" for told in describe(picture, Random(f"{seed}/{source}")))
        table = "\n".join(['<table border="1">', *cells, "</table>"])
        rows.append(f'<tr><td><img src="{source}"></td>\n<td>{table}</td></tr>')
    return "\n".join(rows)
