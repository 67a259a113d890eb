"""Files in a person's folder: those that are looked at, and those of other kinds, which are counted and named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from xmr_e2e.shards.raw import RawTree
from xmr_e2e.shards.schema import FOREIGN_IMAGE_SUFFIXES, is_litter

logger = logging.getLogger(__name__)

SHOWN = 8
"""endings that are named"""


def user_files(folder: Path, *, tell: bool = True) -> list[Path]:
    """All files in a folder and the folders in it, sorted, but for hidden ones and those of a system, and links that
    lead out of the folder: of a folder of somebody else's, they would have any file of the user's shown to others.

    tell: warn of such links.
    """
    found = (path for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in found if not any(is_litter(part) for part in path.relative_to(folder).parts))
    tree = RawTree(folder)
    out = [path for path in files if not tree.holds(path)]
    if out and tell:
        logger.warning(
            "%d links lead out of %s and are left out, such as %s; put the files themselves there",
            len(out), folder, out[0],
        )  # fmt: skip
    return [path for path in files if tree.holds(path)] if out else files


def describe_unused(files: Sequence[Path]) -> str:
    """Such as "3 files are not used: 2 .heic (such as a/IMG_1.HEIC), 1 .pdf (a/b.pdf)"; pictures first, "" for none."""
    if not files:
        return ""
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(file.suffix.lower(), []).append(file)
    order = sorted(kinds, key=lambda kind: (kind not in FOREIGN_IMAGE_SUFFIXES, -len(kinds[kind]), kind))
    listed = [
        f"{len(kinds[kind]):,} {kind or 'without ending'} ({'such as ' * (len(kinds[kind]) > 1)}{kinds[kind][0]})"
        for kind in order[:SHOWN]
    ]
    more = [f"and {len(order) - SHOWN} more endings"] if len(order) > SHOWN else []
    advice = "; convert the pictures among them to JPEG" if order[0] in FOREIGN_IMAGE_SUFFIXES else ""
    count = f"{len(files):,} file{'s are' if len(files) > 1 else ' is'} not used"
    return f"{count}: {', '.join([*listed, *more])}{advice}"
