"""The photographs that benchmarks read, and shards of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import BUILD
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, build_shards
from xmr_e2e.shards.raw import RawSample, fingerprint_of

CLASSES = tuple(f"class {number}" for number in range(10))


def list_photographs(folder: Path) -> list[Path]:
    """The JPEG files in a folder and the folders in it, in order of their names.

    Raises:
        XmrError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise XmrError(f"{folder} has no .jpg files to measure with; give a folder of photographs")
    return found


def samples_of(photographs: Sequence[Path], count: int, split: str = "train") -> list[RawSample]:
    """So many samples, the photographs in turn. Texts and labels say nothing of them: only time is measured."""
    return [
        RawSample(
            f"{number:06d}" if split == "train" else f"{split}-{number:06d}",
            split,
            photographs[number % len(photographs)],
            (f"a text of about ten words for the photograph number {number % 997}",),
            (CLASSES[number % len(CLASSES)],),
        )
        for number in range(count)
    ]


def shards_of(photographs: Sequence[Path], count: int, validated: int = 0) -> Path:
    """A folder of shards of so many samples to train and to validate on, the original bytes kept; made once of
    photographs as they are."""
    samples = [*samples_of(photographs, count), *samples_of(photographs, validated, "val")]
    name = hashlib.sha256(b"".join(map(fingerprint_of, samples))).hexdigest()[:12]
    out = BUILD / f"shards-{name}-{len(samples)}"
    build_shards(out, dataset="benchmark", classes=CLASSES, samples=samples, options=BuildOptions())
    return out
