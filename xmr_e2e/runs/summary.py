"""The end of a training in a few lines: what it cost, where things are, and what to do with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.runs.cost import cost_of
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.run import Run

_ASKS = {"text": "a sentence", "image": "photo.jpg", "audio": "sound.wav", "video": "clip.mp4", "shape3d": "shape.off"}
"""modality -> what stands for a query of it"""


def summary(run: Run, experiment: Experiment) -> str:
    """The cost of a run, its files, and commands for what comes next."""
    return "\n".join([*_cost(run), *_files(run), *_commands(run, experiment)])


def _cost(run: Run) -> Iterator[str]:
    with suppress(XmrError):  # of damaged records, which are no reason to end otherwise
        if cost := cost_of(run.records()):
            yield f"trained for {timedelta(seconds=round(cost.seconds))}, {cost.peak_memory / 1e9:.1f} GB at most"


def _files(run: Run) -> Iterator[str]:
    held = {"model.safetensors": "weights", "metrics.jsonl": "losses"}  # the report has been named already
    for name, what in held.items():
        if (run.folder / name).exists():
            yield f"{what + ':':9}{run.folder / name}"


def _commands(run: Run, experiment: Experiment) -> Iterator[str]:
    asked = next(word for modality, word in _ASKS.items() if modality in experiment.method.towers)
    for command, what in (
        (shell("xmr", "search", run.folder, asked), "items of the test split"),
        (shell("xmr", "report", run.folder, "OTHER"), "beside another run"),
        (shell("xmr", "export", run.folder, "OUT"), "the model alone, for other programs"),
    ):
        yield f"next:    {command}  # {what}"
