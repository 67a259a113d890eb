"""Writes the drawn pictures and the page that lists them."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from preprocessing.synthetic import GENERATOR
from preprocessing.synthetic.drawing import draw_picture
from preprocessing.synthetic.kinds import KINDS
from preprocessing.synthetic.sentences import describe
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.parallel import CPUS, map_shards

CHUNK = 10
"""Pictures that one task draws."""


@dataclass(frozen=True)
class _Task:
    """Some pictures of one class to draw."""

    folder: Path
    name: str
    indices: range
    size: tuple[int, int]
    seed: int


@dataclass(frozen=True)
class Entry:
    """One row of the page."""

    source: str
    sentences: tuple[str, ...]


def draw_raw_set(
    out: Path, *, per_class: int = 50, size: tuple[int, int] = (240, 180), seed: int = 0, workers: int = CPUS
) -> int:
    """Draw the set into `out`, which must not hold anything yet; return the number of pictures.

    The same `per_class`, `size` and `seed` give the same bytes, whatever the number of workers.

    Args:
        size: width and height in pixels.

    Raises:
        XmrError: `out` is not empty, or an option is out of range.
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
    tasks = [
        _Task(growing, kind.name, range(start, min(start + CHUNK, per_class)), size, seed)
        for kind in KINDS
        for start in range(0, per_class, CHUNK)
    ]
    drawn = map_shards(
        _draw, tasks, sizes=[len(task.indices) for task in tasks], title="drawing pictures", workers=workers
    )
    entries = [entry for part in drawn for entry in part]
    (growing / "index.html").write_text(page_of(entries), encoding="utf-8")
    os.replace(growing, place)
    return len(entries)


def _draw(task: _Task) -> list[Entry]:
    (task.folder / task.name).mkdir(exist_ok=True)
    entries = []
    for index in task.indices:
        picture, data = draw_picture(task.name, index, size=task.size, seed=task.seed)
        source = f"{task.name}/synthetic_{index:06d}.jpg"
        (task.folder / source).write_bytes(data)
        entries.append(Entry(source, describe(picture, Random(f"{task.seed}/{source}"))))
    return entries


def page_of(entries: Iterable[Entry]) -> str:
    """The HTML page: a table of images, each with a nested table of sentences."""
    title = "Synthetic Pascal Sentence layout: drawn pictures, no photographs"
    return "\n".join([
        "<html><head>",
        '<meta charset="utf-8">',
        f'<meta name="generator" content="{GENERATOR}">',
        f"<title>{title}</title>",
        "</head><body>",
        f"<h1>{title}</h1>",
        '<table border="0">',
        *(_row(entry) for entry in entries),
        "</table>",
        "</body></html>\n",
    ])  # fmt: skip


def _row(entry: Entry) -> str:
    cells = "\n".join(f"<tr><td>{html.escape(sentence)}</td></tr>" for sentence in entry.sentences)
    return f'<tr><td><img src="{entry.source}"></td>\n<td><table border="1">\n{cells}\n</table></td></tr>'
