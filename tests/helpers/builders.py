"""Builders as a person starts them, and the layouts of Pascal Sentence and Flickr8k in miniature."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.built import image_bytes, manifest, samples, write
from xmr_e2e.shards.build import BuildOptions

ALONE = BuildOptions(workers=1)
LENIENT = BuildOptions(workers=1, max_skipped=0.5)


def command(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"preprocessing.{name}", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def skipped(out: Path) -> dict[str, str]:
    return {item["source"]: item["reason"] for item in manifest(out)["skipped"]}


def splits(out: Path) -> Counter[str]:
    return Counter(sample["split"] for sample in samples(out).values())


def pascal_row(source: str, sentences: Sequence[str]) -> str:
    """As the publisher's page has it: hardly an end tag."""
    cells = "\n".join(f"<tr><td> {sentence} " for sentence in sentences)
    return f'<tr><td><img src="{source}">\n<td><table border=1>\n{cells}\n</table>\n'


def pascal_raw(raw: Path, *, per_class: int = 10, sentences: dict[str, int] | None = None, head: str = "") -> Path:
    """Two classes as published; `sentences`: other numbers of them than five."""
    rows = []
    for name in ("aeroplane", "cat"):
        for i in range(per_class):
            source = f"{name}/2008_{i:06d}.jpg"
            write(raw / source, image_bytes((i, 0, 200)))
            count = (sentences or {}).get(source, 5)
            rows.append(pascal_row(source, [f"A {name}, number {i} &amp; {k}." for k in range(count)]))
    write(raw / "index.html", f"<html><head>{head}</head><body><img src=logo.gif><table>{''.join(rows)}</table>")
    return raw


def flickr8k_raw(raw: Path) -> Path:
    """Ten images as published, of which the last is in no split."""
    names = [f"{i}_a.jpg" for i in range(10)]
    for name in names:
        write(raw / "Flicker8k_Dataset" / name, image_bytes())
    tokens = [f"{name}#{k}\tCaption {k} of {name[0]}, with a comma ." for name in names for k in range(5)]
    write(raw / "Flickr8k.token.txt", "\n".join(tokens) + "\n")
    for part, lines in {"trainImages": names[:6], "devImages": names[6:8], "testImages": names[8:9]}.items():
        write(raw / f"Flickr_8k.{part}.txt", "\n".join(lines) + "\n")
    return raw
