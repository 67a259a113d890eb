"""An experiment tracker of a run: one of Accelerate's, which goes on where it was and never ends a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL.Image import Image

from xmr_e2e.errors import XmrError
from xmr_e2e.received import first_line
from xmr_e2e.runs.run import TRACKERS, Run

logger = logging.getLogger(__name__)

Row: TypeAlias = tuple[int, dict[str, float]]
"""the numbers of a step, by name"""
OF_A_STEP = ("loss", "lr", "images_per_second", "data_wait", "epoch", "seconds", "peak_memory")
"""what trackers get of a step's record"""
LONGEST_ID = 200
"""of a run at a tracker, in characters"""


@dataclass(frozen=True)
class Tracked:
    """The facts of a run that trackers are told."""

    run: Run
    project: str
    configuration: Mapping[str, Any]
    """flat, by dotted names"""
    has_steps: bool
    """true where earlier starts have taken steps, which a tracker that fails must not keep from going on"""
    is_measured: bool
    """true where the run had its figures before"""


class RunTracker(GeneralTracker):
    """One of Accelerate's trackers for a run, on the main process.

    What fails once the run has begun is said once, and the tracker gets no more: metrics.jsonl has all.
    """

    requires_logging_directory = False
    takes_models = False
    """true where a model can be kept with the run"""

    def __init__(self, name: str, tracked: Tracked) -> None:
        self.name = name
        super().__init__()
        self.tracked = tracked
        self._state = _state(tracked.run, name)
        self.known: str | None = self._state.get("id")
        """the tracker's id of this run, where an earlier start has begun it there"""
        self.goes_on = self.has_begun()
        self._inner: GeneralTracker | None = None
        self._logged: dict[tuple[bool, str], int] = {}
        self.is_whole = self.is_measured

    @property
    def tracker(self) -> Any:
        """The package's own run."""
        return self.inner.tracker

    @property
    def inner(self) -> GeneralTracker:
        """Accelerate's tracker."""
        assert self._inner is not None
        return self._inner

    @property
    def is_open(self) -> bool:
        return self._inner is not None

    @property
    def is_measured(self) -> bool:
        """True where the tracker has the run's last figures already."""
        return bool(self._state.get("measured", self.goes_on and self.tracked.is_measured))

    def start(self) -> None:
        """Begin the run at the tracker, or go on with it.

        Raises:
            XmrError: a run cannot begin there. One that has steps already goes on without the tracker.
        """
        try:
            self._inner = self.make()
            self._inner.start()
            self.begin()
            if (identity := self.identity()) != self.known:
                self._remember(id=identity)
        except Exception as error:
            if not self.tracked.has_steps:
                self._inner = None
                raise XmrError(
                    f"--train.log-with {self.name}: the run cannot begin there: {first_line(error)}. Mend that, or "
                    "train without it"
                ) from error
            self._give_up(error)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Nothing: `start` has done it, once for each run."""

    def log(self, values: dict[str, Any], step: int | None = None, **_options: Any) -> None:
        """Log the numbers of one step."""
        self._guarded(lambda: self.write([(step or 0, values)]))

    def take_up(self, past: Sequence[Mapping[str, Any]]) -> None:
        """Go on behind records of earlier starts: what the tracker has of them comes no second time, and one that is
        new to the run gets them all."""
        if not self.goes_on:
            self.log_records(past)
        for record in past:
            self._logged[_kind(record)] = record["step"]

    def log_records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Log lines of metrics.jsonl."""
        new = [record for record in records if record["step"] > self._logged.get(_kind(record), -1)]
        rows = [(record["step"], values) for record in new if (values := numbers(record))]
        if rows:
            self._guarded(lambda: self.write(rows))

    def log_images(self, images: Mapping[str, Image], step: int) -> None:
        """Log pictures, by name."""
        self._guarded(lambda: self.show(images, step))

    def log_model(self, folder: Path) -> None:
        """Keep a model's folder with the run."""
        self._guarded(lambda: self.keep(folder))

    def complete(self) -> None:
        """Note that the tracker has all of the run."""
        self.is_whole = self.is_open
        self._guarded(lambda: self._remember(measured=True) if self.identity() is not None else None)

    def finish(self) -> None:
        """End, once."""
        self._guarded(self.end)
        self._inner = None

    # What packages differ in

    def make(self) -> GeneralTracker:
        """Accelerate's tracker, before it has started."""
        made: GeneralTracker = LOGGER_TYPE_TO_CLASS[self.name](self.tracked.project)
        return made

    def has_begun(self) -> bool:
        """True where an earlier start has begun the run at this tracker."""
        return self.known is not None

    def begin(self) -> None:
        """Store the configuration, where it is not there."""
        if not self.goes_on:
            self.inner.store_init_configuration(dict(self.tracked.configuration))

    def identity(self) -> str | None:
        """The tracker's id of the run, by which it goes on; None where it cannot."""
        return None

    def write(self, rows: Sequence[Row]) -> None:
        """Hand numbers over."""
        for step, values in rows:
            self.inner.log(values, step=step)

    def show(self, images: Mapping[str, Image], step: int) -> None:
        """Hand pictures over, where the tracker takes any."""

    def keep(self, folder: Path) -> None:
        """Hand a model's folder over, where the tracker takes any."""

    def end(self) -> None:
        """Close the run at the tracker."""
        self.inner.finish()

    def _guarded(self, action: Callable[[], None]) -> None:
        if self.is_open:
            try:
                action()
            except Exception as error:  # whatever packages and networks come to
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._inner = None
        logger.warning(
            "--train.log-with %s: %s. The training goes on without it; %s has all",
            self.name, first_line(error), self.tracked.run.metrics,
        )  # fmt: skip

    def _remember(self, **facts: Any) -> None:
        self._state |= facts
        self.tracked.run.save_tracker(self.name, self._state)


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl that trackers get, with their groups: "loss/total", "val/average R@1"."""
    if "val" in record:
        return dict(_flat("val", record["val"]))
    if "loss" not in record:
        return {}
    return {name: value for key in OF_A_STEP if key in record for name, value in _flat(key, record[key])}


def _flat(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, list):
        value = {str(number): item for number, item in enumerate(value)}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}/{key}", item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def _kind(record: Mapping[str, Any]) -> tuple[bool, str]:
    """Of records that follow each other by their steps: a stage's validations, or its steps."""
    return "val" in record, str(record.get("stage"))


def _state(run: Run, name: str) -> dict[str, Any]:
    """The facts that an earlier start has written down of a tracker; whoever changed them since, an id is a word."""
    found = run.document(TRACKERS).get(name)
    facts = found if isinstance(found, dict) else {}
    known = facts.get("id")
    if not isinstance(known, str) or not 0 < len(known) <= LONGEST_ID:
        return {}
    return {"id": known, "measured": facts.get("measured") is True}
