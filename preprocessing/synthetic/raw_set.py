"""The command that writes drawn pictures and the page that lists them."""

from __future__ import annotations

import html
import os
import shutil
from functools import partial
from pathlib import Path
from random import Random

from preprocessing.common.command import OutFolder
from preprocessing.synthetic import GENERATOR
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
    per_class: int = 50,
    size: tuple[int, int] = (240, 180),
    seed: int = 0,
    workers: int = CPUS,
) -> None:
    """Draw a synthetic raw set in the layout of the UIUC Pascal Sentence page.

    20 classes of drawn scenes, each with five sentences; needs no network. Build shards from it with
    preprocessing.pascal_sentence.

    Example: python -m preprocessing.synthetic data/raw/synthetic --per-class 50

    Args:
        out: the folder to write, which must not hold anything yet
        per_class: pictures of each class
        size: width and height in pixels
        seed: another seed draws another set; the same seed gives the same bytes
        workers: processes that draw, which change no byte
    """
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
    tasks = [(name, range(per_class)[start : start + 10]) for name in KINDS for start in range(0, per_class, 10)]
    draw = partial(_draw, growing, size, seed)
    sizes = [len(indices) for _, indices in tasks]
    rows = map_shards(draw, tasks, sizes=sizes, title="drawing pictures", workers=workers)
    (growing / "index.html").write_text(PAGE % "\n".join(rows), encoding="utf-8")
    os.replace(growing, place)
    message = f"{sum(sizes):,} synthetic pictures drawn: {out / 'index.html'}"
    Console().print(message, highlight=False, soft_wrap=True)


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
