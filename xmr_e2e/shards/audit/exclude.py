"""Lists of samples to leave out of a build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.shards.manifest import Skipped
from xmr_e2e.shards.raw import RawSample
from xmr_e2e.shards.schema import SPLITS, key_of


def exclude_listed(
    path: Path, samples: Sequence[RawSample], skipped: Sequence[Skipped]
) -> tuple[list[RawSample], list[Skipped], list[str]]:
    """The samples that are not in the list, and notes about those that are.

    Args:
        path: a text file in UTF-8 with a source or a key a line.

    Raises:
        XmrError: the file cannot be read, names none of the samples, or names them all.
    """
    names = read_names(path)
    if not names:  # of an audit that found nothing
        return [*samples], [*skipped], [f"{path.name} is empty: nothing is left out"]
    sources = [*(sample.source for sample in samples), *(item.source for item in skipped)]
    listed = {source for source in sources if not names.isdisjoint((source, key_of(source)))}
    if not listed:
        raise XmrError(f"--exclude {path}: none of its {len(names)} lines is the source or the key of a sample")
    kept = [sample for sample in samples if sample.source not in listed]
    if not kept:
        raise XmrError(f"--exclude {path}: no sample is left")
    counts = Counter(sample.split for sample in samples if sample.source in listed)
    parts = ", ".join(f"{counts[name]:,} of {name}" for name in SPLITS if counts[name])
    notes = [f"left out, as {path.name} says: {parts or len(listed)}"]
    unknown = sorted(names - listed - {key_of(source) for source in listed})
    if unknown:
        notes.append(f"{path.name}: {len(unknown)} lines are no sample's source or key, such as {unknown[0]}")
    return kept, [item for item in skipped if item.source not in listed], notes


def read_names(path: Path) -> set[str]:
    """The lines of a text file that are not blank. Raises XmrError where it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise XmrError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise XmrError(f"{path}: not UTF-8; save the file in that encoding") from error
    return {line.strip() for line in text.split("\n") if line.strip()}
