"""Trainings as a person starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import ROOT

RECIPE = ROOT / "recipes" / "alscor_flickr8k.py"
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
# A small network on small pictures: 10 steps per epoch, and no report at the end, which takes longer than they do.
SMALL = (
    "--method.image.name squeezenet1_1 --method.dim 4 --method.text.hidden 8 --method.text.kernels 16 "
    "--data.words.dim 8 --data.image-size 48 --data.load-size 48 --data.workers 0 --train.batch-size 4 "
    "--optimizer.lr 3e-3 --train.no-report"
).split(" ")


def command(shards: Path, runs: Path, *options: str) -> list[str]:
    return [str(RECIPE), "--data.shards", str(shards), "--train.runs", str(runs), *SMALL, *options]


def launch(arguments: list[str], launcher: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*(launcher or [sys.executable]), *arguments], capture_output=True, text=True, env=environment
    )


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def trace(run: Path) -> list[tuple[Any, ...]]:
    """All that must not depend on interruptions: the steps' samples, losses and rates, and the validations."""
    return [(r["step"], r["epoch"], r.get("samples"), r.get("loss"), r.get("lr"), r.get("val")) for r in records(run)]


def only_run(runs: Path) -> Path:
    (run,) = (runs / "alscor_flickr8k").iterdir()
    return run
