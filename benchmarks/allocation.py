"""A training on the CPU that keeps the memory of its tensors, against one that asks for it again each step."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from torch import nn

from benchmarks.measure import REPEATS, Figure, Goal, Side, compare, seconds
from xmr_e2e.allocation import keep_freed_memory
from xmr_e2e.towers.networks import load_network


def kept(*, repeats: int = REPEATS, network: str = "mobilenet_v2", batch_size: int = 32, steps: int = 2) -> Figure:
    """Steps of an image network whose process keeps freed memory, against steps of one that does not.

    Args:
        repeats: of each measurement
        network: the image network, by its name
        batch_size: pictures of 224 pixels of a step
        steps: of each measurement
    """

    def side(keep: bool) -> Side:
        words = [network, str(batch_size), str(steps), str(int(keep))]
        return Side(
            f"{network}, batches of {batch_size}, memory {'kept' if keep else 'given back'}", "s per step",
            lambda: float(subprocess.check_output([sys.executable, "-m", "benchmarks.allocation", *words])),
        )  # fmt: skip

    return compare("kept", Goal("at most", 0.8), side(True), side(False), repeats=repeats, warm=False)


def step_seconds(network: str, batch_size: int, steps: int, keep: bool) -> float:
    """The seconds of a forward and backward pass in this process."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if keep:
        keep_freed_memory()
    model, _ = load_network(network, "none")
    pictures = torch.randn(batch_size, 3, 224, 224)
    _step(model, pictures)
    return sum(seconds(lambda: _step(model, pictures)) for _ in range(steps)) / steps


def _step(model: nn.Module, pictures: torch.Tensor) -> None:
    model.zero_grad()
    model(pictures).square().mean().backward()


if __name__ == "__main__":
    name, batch, count, keeps = sys.argv[1:]
    print(step_seconds(name, int(batch), int(count), keeps == "1"))  # noqa: T201  (to the process that has started it)
