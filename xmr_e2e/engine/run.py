"""The run folder: what went in, what happened, what came out.

runs/<recipe>/<time>/
    config.json  environment.json  metrics.jsonl  events (TensorBoard)
    words/           tokeniser and word vectors of the training split
    checkpoints/     to go on from
    model.safetensors  model.json    the selected epoch, self-contained
    evaluation/<split>.json  report.html
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from xmr_e2e.configuration import flatten, to_document
from xmr_e2e.data.loader import Data, fit_words
from xmr_e2e.data.tokenisers import Tokeniser, tokeniser_from_document
from xmr_e2e.engine.experiment import Experiment
from xmr_e2e.errors import XmrError
from xmr_e2e.files import sha256_of, write_atomically
from xmr_e2e.shards import manifest

LIBRARIES = ("torch", "torchvision", "transformers", "gensim", "webdataset", "accelerate", "deepspeed", "numpy")
# What may differ between a run and its continuation: none of it changes what is computed, but for ZeRO's rounding.
FREE_TO_DIFFER = (
    "train.resume",
    "train.runs",
    "train.name",
    "train.zero",
    "train.max_skipped_steps",
    "train.timeout_minutes",
    "train.checkpoint_minutes",
    "train.checkpoint_steps",
    "train.checkpoints_kept",
    "data.workers",
    "data.shards",
)


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path

    @property
    def exists(self) -> bool:
        """Whether a training was started here, so that it can go on."""
        return (self.folder / "config.json").exists()

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def start(self, experiment: Experiment, environment: Mapping[str, Any]) -> None:
        """Make the folder and say what goes in."""
        self.folder.mkdir(parents=True, exist_ok=True)  # a start that was killed leaves it without a configuration
        self._write_json("environment.json", environment)
        self._write_json("config.json", to_document(experiment))  # the last one: with it, the run can be gone on with

    def check_same(self, experiment: Experiment) -> None:
        """Raise XmrError unless the run was started with this configuration."""
        if not self.exists:
            raise XmrError(f"--train.resume {self.folder}: no run folder (it has no config.json)")
        if self.document("environment.json")["manifest_sha256"] != _manifest_sha256(experiment):
            raise XmrError(
                f"--train.resume {self.folder}: {experiment.data.shards} holds other data than the run began with"
            )
        old = dict(flatten(self.document("config.json")))
        new = dict(flatten(to_document(experiment)))
        for name in sorted(old.keys() | new.keys()):
            if name not in FREE_TO_DIFFER and old.get(name) != new.get(name):
                raise XmrError(
                    f"--train.resume {self.folder}: the run has {name} = {old.get(name)!r}, and the command line says "
                    f"{new.get(name)!r}; repeat the run's own options or start a new run"
                )

    def fit_words(self, data: Data) -> None:
        """Fit tokeniser and word vectors, unless an earlier start of this run has done so."""
        folder = self.folder / "words"
        if (folder / "vectors.safetensors").exists():
            return
        tokeniser, vectors = fit_words(data)
        folder.mkdir(exist_ok=True)
        self._write_json("words/tokeniser.json", tokeniser.to_document())
        write_atomically(folder / "vectors.safetensors", save({"vectors": vectors}))

    def words(self) -> tuple[Tokeniser | None, NDArray[np.float32]]:
        """Tokeniser and word vectors (len(tokeniser), dim); None and an empty array where no text is read."""
        folder = self.folder / "words"
        if not folder.exists():
            return None, np.zeros((0, 0), np.float32)
        document = json.loads((folder / "tokeniser.json").read_bytes())
        return tokeniser_from_document(document), load_file(folder / "vectors.safetensors")["vectors"]

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; without the last one where it was cut as its process was killed."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def document(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; empty where it is missing, as beside a model that was copied alone."""
        path = self.folder / name
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def save_evaluation(self, split: str, document: Mapping[str, Any]) -> Path:
        (self.folder / "evaluation").mkdir(exist_ok=True)
        return self._write_json(f"evaluation/{split}.json", document)

    def _write_json(self, name: str, document: Any) -> Path:
        path = self.folder / name
        write_atomically(path, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())
        return path


def environment(experiment: Experiment, world_size: int) -> dict[str, Any]:
    """What the result may depend on besides the configuration."""
    return {
        "command": sys.argv,
        "commit": _commit(),
        "manifest_sha256": _manifest_sha256(experiment),
        "seed": experiment.train.seed,
        "processes": world_size,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})",
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def _manifest_sha256(experiment: Experiment) -> str:
    folders = [experiment.data.shards, *map(Path, experiment.data.also)]
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
