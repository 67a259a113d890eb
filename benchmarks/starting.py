"""The start of a command: what it imports before it answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import REPEATS, Figure, Goal, Side, compare, seconds

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "recipes/dscmr_wikipedia.py"


def start(*, repeats: int = REPEATS, recipe: str = RECIPE) -> Figure:
    """The options of a recipe, told by its --help, against the import of torch alone.

    Args:
        repeats: of each measurement
        recipe: its file
    """
    return compare(
        "start",
        Goal("at most", 1.5),
        Side(f"{recipe} --help", "s", lambda: _run(str(ROOT / recipe), "--help")),
        Side("import torch", "s", lambda: _run("-c", "import torch")),
        repeats=repeats,
    )


def _run(*words: str) -> float:
    """Seconds of a Python of its own, from its start to its end."""
    return seconds(lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL))
