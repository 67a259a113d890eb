"""A drawn raw set in the layout of the UIUC Pascal Sentence page: the demo's data, with no network and no asset."""

from __future__ import annotations

GENERATOR = "xmr_e2e synthetic"
"""The page's `<meta name="generator">`, by which it is known that the pictures are no photographs."""
