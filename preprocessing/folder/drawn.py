"""Splits of samples that were found without them, or with some of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from preprocessing.common.splits import draw_splits
from preprocessing.folder.copies import find_copies
from preprocessing.folder.found import Found, shown
from xmr_e2e.errors import XmrError

USUAL = 0.1
"""Share of each class for validation and for testing, where no splits are given at all."""


@dataclass(frozen=True)
class Fractions:
    """The options that were given; None for the others."""

    val: float | None = None
    test: float | None = None
    seed: int | None = None

    def given(self) -> dict[str, float]:
        named = {"val": self.val, "test": self.test}
        return {name: value for name, value in named.items() if value is not None}


def with_splits(found: Found, raw: Path, wanted: Fractions) -> Found:
    """The samples with splits: as they are, or with those drawn that are missing.

    Each class is drawn from by itself (a sample's first label counts). Files with the same bytes are in one split.

    Raises:
        XmrError: an option that would go unused, or fractions that leave nothing to train on.
    """
    present = {sample.split for sample in found.samples} if found.has_splits else set()
    usual = 0.0 if present else USUAL
    shares = {name: wanted.given().get(name, usual) for name in ("val", "test") if name not in present}
    _refuse_unused(present, shares, wanted)
    if present and not any(shares.values()):
        return replace(found, notes=[*found.notes, *_note_no_val(present), *_note_on_given(found, raw)])
    return _drawn(found, raw, shares, seed=wanted.seed or 0)


def _refuse_unused(present: Collection[str], shares: Mapping[str, float], wanted: Fractions) -> None:
    for name, value in wanted.given().items():
        if name in present:
            raise XmrError(f"--{name} {value}: the table has the split {name} already; leave out the option")
    if wanted.seed is not None and not any(shares.values()):
        raise XmrError(f"--seed {wanted.seed}: no split is drawn; leave out the option, or draw one with --val")
    if present and any(shares.values()) and "train" not in present:
        raise XmrError(f"--{next(iter(wanted.given()))}: the table has no split train to draw from")


def _note_no_val(present: Collection[str]) -> list[str]:
    if "val" in present:
        return []
    return ["the table has no split val, by which an epoch is selected: --val 0.1 draws one from train"]


def _note_on_given(found: Found, raw: Path) -> list[str]:
    """The number of files that lie in two of the splits that are given."""
    splits = {sample.source: sample.split for sample in found.samples}
    across = [group for group in _copies(found, raw, splits) if len({splits[source] for source in group}) > 1]
    if not across:
        return []
    one_of_each = {splits[source]: source for source in across[0]}.values()
    return [
        f"{sum(map(len, across))} {_what(found)} have the same bytes as some in another split, such as "
        f"{' and '.join(map(shown, one_of_each))}: figures are too good by them; `xmr shards audit` lists what to "
        "leave out"
    ]


def _what(found: Found) -> str:
    return "files" if any(sample.media for sample in found.samples) else "pictures"


def _drawn(found: Found, raw: Path, shares: Mapping[str, float], *, seed: int) -> Found:
    """With splits for all samples, or for those of train where there are splits."""
    class_of = {
        sample.source: sample.labels[0] if sample.labels else ""
        for sample in found.samples
        if sample.split in ("", "train")
    }
    # What cannot be used takes its place in a split too, so that mending it moves no other sample.
    class_of |= {
        item.source: PurePosixPath(item.source).parent.name for item in found.skipped if item.split in ("", "train")
    }
    copies = _copies(found, raw, class_of)
    splits = draw_splits(
        class_of,
        val=shares.get("val", 0.0),
        test=shares.get("test", 0.0),
        seed=seed,
        together=[*found.together, *copies],
    )
    notes = [*found.notes]
    if found.has_splits:
        parts = " and ".join(f"{share:g} for {name}" for name, share in shares.items() if share)
        notes.append(f"of each class in the table's train, {parts} was drawn with seed {seed}")
    notes += _notes_on_copies(copies, splits, _what(found))
    return replace(
        found,
        samples=[replace(sample, split=splits.get(sample.source, sample.split)) for sample in found.samples],
        skipped=[replace(item, split=splits.get(item.source, item.split)) for item in found.skipped],
        notes=notes,
    )


def _copies(found: Found, raw: Path, class_of: Collection[str]) -> list[list[str]]:
    """Groups of sources of which a file is the same, or holds the same bytes, among those whose split is drawn."""
    sources_of: dict[Path, set[str]] = {}
    for sample in found.samples:
        if sample.source in class_of:
            for path in sample.files.values():
                sources_of.setdefault(path, set()).add(sample.source)
    for item in found.skipped:
        if item.source in class_of:
            sources_of.setdefault(raw / item.source, set()).add(item.source)
    groups = [sources for sources in sources_of.values() if len(sources) > 1]
    groups += [set().union(*(sources_of[file] for file in files)) for files in find_copies(sources_of)]
    return [sorted(group) for group in groups]


def _notes_on_copies(copies: Sequence[Sequence[str]], splits: Mapping[str, str], what: str) -> list[str]:
    """The numbers of files with copies, where they stay together, and where a class has nothing else."""
    texts = {
        True: f"{what} have the same bytes as others and stay in one split with them",
        False: f"{what} have the same bytes as some in another split: in their classes fewer than three differ",
    }
    found: dict[bool, list[Sequence[str]]] = {together: [] for together in texts}
    for group in copies:
        found[len({splits[source] for source in group}) == 1].append(group)
    return [
        f"{sum(map(len, groups))} {texts[together]}, such as {' and '.join(map(shown, groups[0][:2]))}"
        for together, groups in found.items()
        if groups
    ]
