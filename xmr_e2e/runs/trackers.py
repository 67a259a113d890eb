"""The experiment trackers of a training: what they are told at its start, and what they get at its end."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from accelerate import Accelerator
from PIL import Image

from xmr_e2e.configuration import flatten
from xmr_e2e.errors import XmrError, describe_os_error
from xmr_e2e.evaluation.result import EvaluationResult
from xmr_e2e.runs.config_file import to_options
from xmr_e2e.runs.experiment import Experiment
from xmr_e2e.runs.export import export
from xmr_e2e.runs.run import Run
from xmr_e2e.runs.run_tracker import RunTracker, Tracked
from xmr_e2e.runs.tracker_packages import run_tracker

logger = logging.getLogger(__name__)


def open_trackers(
    accelerator: Accelerator, experiment: Experiment, run: Run, past: Sequence[Mapping[str, Any]]
) -> None:
    """Begin the run at the trackers of --train.log-with, or go on with it. Called by the main process.

    Args:
        past: records of earlier starts, those that happen again among them.

    Raises:
        XmrError: a run cannot begin at one of them.
    """
    is_measured = (run.folder / "evaluation").exists()
    about = Tracked(run, experiment.name, _configuration(experiment, run), bool(past), is_measured)
    accelerator.log_with = [run_tracker(name, about) for name in dict.fromkeys(experiment.train.log_with)]
    accelerator.init_trackers(experiment.name)
    for tracker in trackers_of(accelerator):
        tracker.take_up(past)


def trackers_of(accelerator: Accelerator) -> list[RunTracker]:
    """The trackers that were opened; none on other processes than the main one."""
    return cast(list[RunTracker], accelerator.trackers)


def close_trackers(accelerator: Accelerator) -> None:
    """End the run at each tracker, whatever became of it."""
    for tracker in trackers_of(accelerator):
        tracker.finish()


def log_end(accelerator: Accelerator, run: Run, result: EvaluationResult | None, pictures: Mapping[str, bytes]) -> None:
    """Hand the figures, the report's pictures (PNG, by name) and the model to trackers that do not have them yet."""
    trackers = [tracker for tracker in trackers_of(accelerator) if not tracker.is_measured]
    step = max((record["step"] for record in run.records()), default=0)
    images = {name: Image.open(io.BytesIO(png)).convert("RGB") for name, png in pictures.items()}
    for tracker in trackers:
        if result is not None:
            tracker.log(dict(figures(result)), step)
        if images:
            tracker.log_images(images, step)
    takers = [tracker for tracker in trackers if tracker.takes_models and tracker.is_open]
    if takers:
        _log_model(takers, run)
    for tracker in trackers:
        tracker.complete()


def figures(result: EvaluationResult) -> Iterator[tuple[str, float]]:
    """The figures of a split by the names that those of validations have: "test/average mAP@all"."""
    rows = {"average": result.metrics.model.average}
    rows |= {name: row.scores for name, row in result.metrics.model.rows.items()}
    for direction, scores in rows.items():
        yield from ((f"{result.split}/{direction} {name}", float(value)) for name, value in scores.items())


def _log_model(takers: Sequence[RunTracker], run: Run) -> None:
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        try:
            export(run, model)
        except (XmrError, OSError) as error:
            said = error if isinstance(error, XmrError) else describe_os_error(error)
            logger.warning("the model is not handed to %s: %s", ", ".join(each.name for each in takers), said)
            return
        for tracker in takers:
            tracker.log_model(model)


def _configuration(experiment: Experiment, run: Run) -> dict[str, Any]:
    """All options and the environment, by dotted names."""
    return dict(flatten({**to_options(experiment), "environment": run.document("environment.json")}))
