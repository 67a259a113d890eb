"""Drawn raw sets, with no network and no asset: the demo's, in the layout of the UIUC Pascal Sentence page, and one of
five modalities."""

from __future__ import annotations

from pathlib import Path

GENERATOR = "xmr_e2e synthetic"
"""The page's `<meta name="generator">`, by which it is known that the pictures are no photographs."""
GENERATOR_FILE = "generator.txt"
"""Its first line is GENERATOR in a set that has no page."""


def is_synthetic(raw: Path) -> bool:
    """True for a folder that says itself that its content was made by this project."""
    try:
        return (raw / GENERATOR_FILE).read_text(encoding="utf-8").partition("\n")[0] == GENERATOR
    except (OSError, UnicodeDecodeError):
        return False
