"""The script that `python -m benchmarks first_step` starts: a recipe's training up to its first step, or what that is
compared with."""

from __future__ import annotations

import runpy
import sys
import time

FIRST_STEP = "first step"
TORCH, LOADER, BATCH = "torch", "loader", "batch"


def say(what: str) -> None:
    """A moment, as a line with the time since the machine was started, which is the same clock in every process."""
    sys.stdout.write(f"{what} {time.monotonic()}\n")
    sys.stdout.flush()


def train(recipe: str, options: list[str]) -> None:
    """Run a recipe as `python RECIPE OPTIONS` does, and say when its first step is taken."""
    from benchmarks.on_device import wait  # these are of a training's imports, which come later without them
    from xmr_e2e.training.step import Stepper

    step = Stepper.step

    def first(*arguments: object) -> object:
        outcome = step(*arguments)  # type: ignore[arg-type]
        wait()
        say(FIRST_STEP)
        setattr(Stepper, "step", step)  # noqa: B010
        return outcome

    setattr(Stepper, "step", first)  # noqa: B010
    sys.argv = [recipe, *options]
    runpy.run_path(recipe, run_name="__main__")


def load(recipe: str, shards: str) -> None:
    """Import torch; then make the first batch of a recipe's pictures and texts, as its loader does."""
    import torch  # noqa: F401

    say(TORCH)
    from dataclasses import replace
    from pathlib import Path

    from benchmarks.recipes import experiment_of
    from xmr_e2e.data.batch_dataset import BatchDataset
    from xmr_e2e.data.loader import Loader

    experiment = experiment_of(recipe)
    data = replace(experiment.data, shards=Path(shards))
    say(LOADER)
    loader = Loader(BatchDataset(data, "train", {"image": "pixels"}, None, seed=0), experiment.train.batch_size)
    next(loader.epoch())
    say(BATCH)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(sys.argv[2], sys.argv[3:])
    else:
        load(*sys.argv[2:])
