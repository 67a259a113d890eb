"""The layout of a publisher's dataset, and the error for one that is not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmr_e2e.errors import XmrError


@dataclass(frozen=True)
class Layout:
    """`files`: what a raw folder holds, a line each; `origin`: where it is to be had."""

    dataset: str
    files: tuple[str, ...]
    origin: str

    def require_folder(self, raw: Path) -> None:
        """Raises XmrError if the raw folder is missing or empty."""
        if not raw.exists():
            raise self.error(f"{raw} does not exist")
        if not raw.is_dir():
            raise self.error(f"{raw} is not a folder")
        if not any(raw.iterdir()):
            raise self.error(f"{raw} is empty")

    def error(self, problem: str) -> XmrError:
        """The problem, with what was expected and where to get it."""
        lines = "\n".join(f"  {line}" for line in self.files)
        return XmrError(f"{problem}. {self.dataset} is expected as\n{lines}\n{self.origin}")
