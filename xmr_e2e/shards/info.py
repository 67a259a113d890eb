"""The content of a manifest, as tables for a terminal, and for a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import rich.console
from rich.console import ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xmr_e2e import notebook
from xmr_e2e.escape import one_line
from xmr_e2e.received import shortened
from xmr_e2e.shards.manifest import Manifest

CLASSES_SHOWN = 24
LINES_SHOWN = 10


def describe(manifest: Manifest) -> Group:
    """Splits with the samples that have each modality, classes, what was skipped and why, and the builder's notes."""
    parts: list[RenderableType] = [_heading(manifest), _splits_table(manifest)]
    if manifest.shapes:
        shapes = (f"{name} {' x '.join(map(str, shape))}" for name, shape in manifest.shapes.items())
        parts.append(_headed("features", f" per sample: {', '.join(shapes)}"))
    if manifest.classes:
        parts.append(_classes_table(manifest))
    skipped = [f"{item.source} ({item.split}): {item.reason}" for item in manifest.skipped]
    parts += _some("skipped", skipped)
    added = [f"{member} added: {note}" for member, note in manifest.extended.items()]
    parts += _some("notes", [*added, *manifest.notes])
    return Group(*parts)


def as_html(manifest: Manifest) -> str:
    """Splits, the most frequent classes, how many were skipped, and notes: for a notebook."""
    notes = [*([f"skipped: {len(manifest.skipped):,}"] if manifest.skipped else []), *manifest.notes]
    return notebook.display(
        notebook.heading(manifest.dataset),
        notebook.paragraph(_about(manifest)),
        notebook.table(_split_columns(manifest), _split_rows(manifest)),
        _frequent_classes(manifest),
        notebook.items(notes[:LINES_SHOWN]),
    )


def _frequent_classes(manifest: Manifest) -> str:
    totals = _totals(manifest)
    names = sorted(totals, key=lambda name: -totals[name])[:CLASSES_SHOWN]
    shown = ", ".join(f"{shortened(name, quoted=False)} ({totals[name]:,})" for name in names)
    return notebook.paragraph(f"samples per class: {shown}") if shown else ""


def _totals(manifest: Manifest) -> dict[str, int]:
    return {name: sum(split.labels.get(name, 0) for split in manifest.splits.values()) for name in manifest.classes}


def _heading(manifest: Manifest) -> Text:
    return _headed(manifest.dataset, f": {_about(manifest)}")


def _about(manifest: Manifest) -> str:
    """Its classes, and how its files were made."""
    labels = "several labels per sample" if manifest.multi_label else "one label per sample"
    classes = f"{len(manifest.classes)} classes, {labels}" if manifest.classes else "no classes, no labels"
    origin = "tars adopted from another tool" if manifest.adopted else _options(manifest)
    return f"{classes}; {origin}"


def _options(manifest: Manifest) -> str:
    resize, frames = manifest.options.get("resize"), manifest.options.get("frames")
    images = f"images resized to {resize} pixels (shorter side)" if resize else "original image bytes"
    return f"{images}, {frames} frames of each video" if frames else images


def _splits_table(manifest: Manifest) -> Table:
    table = Table("split", title="Splits", title_justify="left")
    for name in _split_columns(manifest)[1:]:
        table.add_column(name, justify="right")
    for row in _split_rows(manifest):
        table.add_row(*row)
    return table


def _split_columns(manifest: Manifest) -> list[str]:
    return ["split", "samples", *manifest.modalities, "shards", "MB"]


def _split_rows(manifest: Manifest) -> Iterator[list[str]]:
    for name, split in manifest.splits.items():
        megabytes = sum(shard.bytes for shard in split.shards) / 1e6
        counts = [split.samples, *(split.modalities.get(name, 0) for name in manifest.modalities), len(split.shards)]
        yield [name, *(f"{count:,}" for count in counts), f"{megabytes:,.1f}"]


def _classes_table(manifest: Manifest) -> Table:
    """Samples per class and split: all classes, or the most frequent ones where there are many."""
    totals = _totals(manifest)
    shown = list(manifest.classes)
    title = "Samples per class"
    if len(shown) > CLASSES_SHOWN:
        shown = sorted(shown, key=lambda name: -totals[name])[:CLASSES_SHOWN]
        title += f" (the {CLASSES_SHOWN} most frequent of {len(manifest.classes)})"
    table = Table("class", title=title, title_justify="left")
    for split in manifest.splits:
        table.add_column(split, justify="right")
    table.add_column("")
    largest = max(totals.values()) or 1
    for name in shown:
        counts = [f"{split.labels.get(name, 0):,}" for split in manifest.splits.values()]
        table.add_row(one_line(name), *counts, _Bar(round(20 * totals[name] / largest)))
    return table


@dataclass(frozen=True)
class _Bar:
    """A bar of so many characters, of those that the terminal's encoding has."""

    length: int

    def __rich_console__(self, console: rich.console.Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield ("#" if options.ascii_only else "█") * min(self.length, options.max_width)

    def __rich_measure__(self, console: rich.console.Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, self.length)


def _some(title: str, lines: Iterable[str]) -> list[RenderableType]:
    lines = list(lines)
    if not lines:
        return []
    shown = [f"  {one_line(line)}" for line in lines[:LINES_SHOWN]]
    if len(lines) > LINES_SHOWN:
        shown.append(f"  … and {len(lines) - LINES_SHOWN} more in manifest.json")
    return [_headed(title, f" ({len(lines)})"), *shown]


def _headed(words: str, rest: str) -> Text:
    return Text.assemble((one_line(words), "bold"), one_line(rest))
