"""The recipes that benchmarks take: one for each method, on Flickr8k."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import BUILD
from benchmarks.photographs import list_photographs, shards_of
from xmr_e2e.data.config import Data
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


def on_photographs(
    recipe: str,
    photographs: Path,
    steps: int,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    data: Data | None = None,
) -> Experiment:
    """The recipe's configuration for so many steps an epoch on shards of photographs; it validates on nothing, and
    leaves no report.

    Args:
        batch_size: of the steps; the recipe's own by default.
        data: in place of the recipe's but for the shards.
    """
    whole = experiment_of(recipe)
    size = batch_size or whole.train.batch_size
    shards = shards_of(list_photographs(photographs), size * steps)
    train = replace(whole.train, epochs=epochs, batch_size=size, runs=BUILD / "runs", select="last", report=False)
    return replace(whole, data=replace(data or whole.data, shards=shards), train=train)
