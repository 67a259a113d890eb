"""Trackers by name, and what their packages differ in: how a run goes on there, names, pictures, models.

Packages are imported where they are used: most trainings need none of them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker
from PIL.Image import Image

from xmr_e2e.errors import XmrError
from xmr_e2e.runs.run_tracker import Row, RunTracker, Tracked

if TYPE_CHECKING:
    from mlflow.entities import Metric

BATCH = 1000
"""metrics that MLflow takes at once"""


class _TensorBoard(RunTracker):
    """TensorBoard's events, in the run folder itself."""

    def has_begun(self) -> bool:
        return any(self.tracked.run.folder.glob("events.out.tfevents.*"))

    def make(self) -> GeneralTracker:
        return TensorBoardTracker("", str(self.tracked.run.folder))

    def begin(self) -> None:
        """As text: what Accelerate writes of a configuration is a run of its own beside this one."""
        if not self.goes_on:
            lines = (f"    {name}: {value}" for name, value in self.tracked.configuration.items())  # Markdown's code
            self.tracker.add_text("configuration", "\n".join(lines))

    def show(self, images: Mapping[str, Image], step: int) -> None:
        for name, image in images.items():
            self.tracker.add_image(f"report/{name}", np.asarray(image), step, dataformats="HWC")


class _WandB(RunTracker):
    """Weights & Biases."""

    takes_models = True

    def make(self) -> GeneralTracker:
        # The configuration at once: offline, earlier versions of Accelerate would begin another run for it.
        about = {"name": self.tracked.run.folder.name, "config": dict(self.tracked.configuration)}
        return WandBTracker(self.tracked.project, id=self.known, resume="allow", **about)

    def begin(self) -> None:
        """Count by a metric of the training's own: steps of the package's cannot be returned to, as the validation
        after a step that was logged has to."""
        self.tracker.define_metric("step")
        self.tracker.define_metric("*", step_metric="step")

    def identity(self) -> str | None:
        return str(self.tracker.id)

    def write(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self.tracker.log({**values, "step": step})

    def show(self, images: Mapping[str, Image], step: int) -> None:
        import wandb

        self.tracker.log({f"report/{name}": wandb.Image(image) for name, image in images.items()} | {"step": step})

    def keep(self, folder: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{self.tracker.id}", "model")
        artifact.add_dir(str(folder))
        self.tracker.log_artifact(artifact)

    def end(self) -> None:
        self.tracker.finish(exit_code=0 if self.is_whole else 1)


class _MLflow(RunTracker):
    """MLflow."""

    takes_models = True

    def make(self) -> GeneralTracker:
        return MLflowTracker(self.tracked.project, run_id=self.known, run_name=self.tracked.run.folder.name)

    def begin(self) -> None:
        if not self.goes_on:  # no value can be changed
            named = {_mlflow_name(name): value for name, value in self.tracked.configuration.items()}
            self.inner.store_init_configuration(named)

    def identity(self) -> str | None:
        return str(self.tracker.info.run_id)

    def write(self, rows: Sequence[Row]) -> None:
        """Many at once: one by one, each takes as long as a small step."""
        from mlflow import MlflowClient

        metrics = _mlflow_metrics(rows)
        while batch := list(islice(metrics, BATCH)):
            MlflowClient().log_batch(self.tracker.info.run_id, metrics=batch)

    def show(self, images: Mapping[str, Image], step: int) -> None:
        import mlflow

        for name, image in images.items():
            mlflow.log_image(image, artifact_file=f"report/{name}.png")

    def keep(self, folder: Path) -> None:
        import mlflow

        mlflow.log_artifacts(str(folder), "model")

    def end(self) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if self.is_whole else "KILLED")


def _mlflow_name(name: str) -> str:
    """A name of the signs that MLflow takes: "R@1" is "R_at_1"."""
    return re.sub(r"[^/\w.\- :]", "_", name.replace("@", "_at_"))


def _mlflow_metrics(rows: Sequence[Row]) -> Iterator[Metric]:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    for step, values in rows:
        for name, value in values.items():
            yield Metric(_mlflow_name(name), value, now, step)


class _Trackio(RunTracker):
    """Trackio."""

    takes_models = True

    def make(self) -> GeneralTracker:
        # The configuration at each start, which otherwise replaces it by none.
        about = {"name": self.tracked.run.folder.name, "config": dict(self.tracked.configuration)}
        resume = "must" if self.known else "never"
        return TrackioTracker(self.tracked.project, resume=resume, embed=False, **about)

    def begin(self) -> None:
        if self.goes_on and self.identity() != self.known:
            raise XmrError(f"the last run of the name {self.tracked.run.folder.name} there is another one")

    def identity(self) -> str | None:
        return str(self.tracker.id)

    def write(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self.tracker.log(values, step=step)

    def show(self, images: Mapping[str, Image], step: int) -> None:
        import trackio

        self.tracker.log({f"report/{name}": trackio.Image(image) for name, image in images.items()}, step=step)

    def keep(self, folder: Path) -> None:
        self.tracker.log_artifact(folder, name=f"model-{self.tracker.id}", type="model")


KINDS: dict[str, type[RunTracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
    "trackio": _Trackio,
}
"""those that get pictures and go on; others get configuration and numbers, as Accelerate hands them over"""


def run_tracker(name: str, tracked: Tracked) -> RunTracker:
    """The tracker of this name, which is still to start."""
    return KINDS.get(name, RunTracker)(name, tracked)
