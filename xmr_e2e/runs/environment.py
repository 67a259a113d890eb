"""The environment of a training: what its result may depend on besides the configuration."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from xmr_e2e.devices import uses_gpu
from xmr_e2e.files import sha256_of
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.shards import manifest

LIBRARIES = ("torch", "torchvision", "transformers", "gensim", "accelerate", "deepspeed", "numpy")


def environment(experiment: Experiment, world_size: int) -> dict[str, Any]:
    """The environment on which the result may depend besides the configuration."""
    return {
        "command": sys.argv,
        "commit": _commit(),
        "manifest_sha256": manifest_sha256(experiment),
        "seed": experiment.train.seed,
        "processes": world_size,
        "device": torch.cuda.get_device_name() if uses_gpu() else f"CPU ({platform.machine()})",
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def manifest_sha256(experiment: Experiment) -> str:
    """The checksum of what is trained on, by the manifests of its folders."""
    folders = [experiment.data.shards, *map(Path, experiment.data.extra_shards)]
    sums = [sha256_of(folder / manifest.NAME) for folder in folders]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the checkout that this package runs from, with a mark for local changes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
