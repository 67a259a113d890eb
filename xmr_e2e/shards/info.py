"""The content of a manifest, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import rich.console
from rich.console import ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xmr_e2e.escape import one_line
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


def _heading(manifest: Manifest) -> Text:
    labels = "several labels per sample" if manifest.multi_label else "one label per sample"
    classes = f"{len(manifest.classes)} classes, {labels}" if manifest.classes else "no classes, no labels"
    origin = "tars adopted from another tool" if manifest.adopted else _options(manifest)
    return _headed(manifest.dataset, f": {classes}; {origin}")


def _options(manifest: Manifest) -> str:
    resize, frames = manifest.options.get("resize"), manifest.options.get("frames")
    images = f"images resized to {resize} pixels (shorter side)" if resize else "original image bytes"
    return f"{images}, {frames} frames of each video" if frames else images


def _splits_table(manifest: Manifest) -> Table:
    table = Table("split", title="Splits", title_justify="left")
    for name in ("samples", *manifest.modalities, "shards", "MB"):
        table.add_column(name, justify="right")
    for name, split in manifest.splits.items():
        megabytes = sum(shard.bytes for shard in split.shards) / 1e6
        counts = [split.samples, *(split.modalities.get(name, 0) for name in manifest.modalities), len(split.shards)]
        table.add_row(name, *(f"{count:,}" for count in counts), f"{megabytes:,.1f}")
    return table


def _classes_table(manifest: Manifest) -> Table:
    """Samples per class and split: all classes, or the most frequent ones where there are many."""
    totals = {name: sum(split.labels.get(name, 0) for split in manifest.splits.values()) for name in manifest.classes}
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
