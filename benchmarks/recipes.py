"""The recipes that benchmarks take: one for each method, on Flickr8k."""

from __future__ import annotations

import importlib
from pathlib import Path

from xmr_e2e.runs.experiment import Experiment

ROOT = Path(__file__).resolve().parents[1]


def recipes_measured() -> list[str]:
    """The recipes on Flickr8k whose towers are trained; others take weights from files, and have no step to measure."""
    names = sorted(path.stem for path in (ROOT / "recipes").glob("[!_]*_flickr8k.py"))
    return [name for name in names if not experiment_of(name).method.frozen]


def experiment_of(recipe: str) -> Experiment:
    """The recipe's configuration."""
    experiment: Experiment = importlib.import_module(f"recipes.{recipe}").experiment()
    return experiment
