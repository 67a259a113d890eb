"""End-to-end training for cross-modal retrieval from raw media."""

from __future__ import annotations

__version__ = "0.1.0"
