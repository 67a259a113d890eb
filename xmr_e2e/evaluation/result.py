"""The result of an evaluation: what `evaluation/*.json` of a run says, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from xmr_e2e import notebook
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.figures import CrossModalMetrics, Directions, RetrievalMetrics
from xmr_e2e.evaluation.protocol import Name, ProtocolRecord, Words
from xmr_e2e.evaluation.shown import ShownRow, ratio_cells, score_cells, shown_rows, shown_scores
from xmr_e2e.received import parse, parse_json, read_bytes


@dataclass(frozen=True)
class TrainingCost:
    """The time and memory of the training whose model was measured."""

    seconds: Annotated[float, Field(ge=0)]
    """of all its starts together, with validation"""
    peak_memory: Annotated[int, Field(ge=0)]
    """bytes of the main process: of its GPU, as the allocator reserved them; without one, of the host"""


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation, from the measuring to the run folder, reports and tables."""

    dataset: Name
    split: Literal["train", "val", "test"]
    selection: Words
    """the selection of the epoch, in words"""
    metrics: CrossModalMetrics
    protocol: ProtocolRecord | None = None
    """None in results of versions that had no protocols: they measured as clean does"""
    leaks: tuple[Words, ...] = ()
    """the known causes of metrics that are too high, in sentences"""
    classes: tuple[Name, ...] = ()
    """empty in results of early versions"""
    training: TrainingCost | None = None
    """None where the training's records do not have it, as those of early versions"""
    label_noise: Words = ""
    """the share of wrong labels that the model was trained with, in words; "" where there was none"""

    @property
    def is_complete(self) -> bool:
        """True where all is there that this version writes."""
        return self.protocol is not None and self.metrics.is_complete

    def require_protocol(self) -> ProtocolRecord:
        """The protocol.

        Raises:
            XmrError: it is not known, as in results of versions that had none.
        """
        if self.protocol is None:
            raise XmrError(
                f"the result on {self.dataset} was written by an earlier version; measure it again: xmr eval"
            )
        return self.protocol

    def _repr_html_(self) -> str:
        """The figures in a notebook, those of random rankings beside each, and what has to be known of them."""
        shown = shown_scores(self.metrics)
        rows = [line for row in shown_rows(self.metrics) for line in _lines(row, shown)]
        about = f"{self.dataset}, {self.split} split"
        protocol = [f"protocol {self.protocol.name}, gallery {self.protocol.gallery}"] if self.protocol else []
        noise = [f"trained with wrong labels: {self.label_noise}"] if self.label_noise else []
        leaks = [f"known leak: {leak}" for leak in self.leaks]
        differences = [f"differs from clean: {words}" for words in (self.protocol.differences if self.protocol else ())]
        return notebook.display(
            notebook.heading(about),
            notebook.paragraph("; ".join([*protocol, self.selection])),
            notebook.items([*noise, *leaks, *differences]),
            notebook.table(["direction", "", *shown], rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of a result file, as JSON values."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "selection": self.selection,
            "protocol": self.protocol and {**asdict(self.protocol), "differences": list(self.protocol.differences)},
            "leaks": list(self.leaks),
            "classes": list(self.classes),
            "training": self.training and asdict(self.training),
            **({"label_noise": self.label_noise} if self.label_noise else {}),
            "model": _side(self.metrics.model),
            "random": _side(self.metrics.random),
            "definitions": self.metrics.definitions,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any], where: str) -> EvaluationResult:
        """The result whose `to_dict` this is, whoever has changed it since; or one of an earlier version.

        Args:
            where: the file, for errors.

        Raises:
            XmrError: it is something else; names the first key that is wrong.
        """
        text = json.dumps(_in_present_form(document))
        about, metrics = parse(_About, text, where), parse(CrossModalMetrics, text, where)
        for side in (metrics.model, metrics.random):
            for name, own in side.rows.items():
                if len(own.curve.recall) != len(own.curve.precision) or len(own.scope.k) != len(own.scope.precision):
                    raise XmrError(f"{where}: {name}: a curve has other numbers of places than of values")
        if not metrics.model.directions:
            raise XmrError(f"{where}: model.figures has no direction")
        return cls(
            about.dataset, about.split, about.selection, metrics, about.protocol,
            tuple(about.leaks or ()), tuple(about.classes or ()), about.training, about.label_noise,
        )  # fmt: skip


@dataclass(frozen=True)
class _About:
    """The keys of a file beside the metrics; None for those that came with later versions."""

    dataset: Name
    split: Literal["train", "val", "test"]
    selection: Words
    protocol: ProtocolRecord | None = None
    leaks: Annotated[list[Words], Field(max_length=100)] | None = None
    classes: Annotated[list[Name], Field(max_length=10**6)] | None = None
    training: TrainingCost | None = None
    label_noise: Words = ""


def read_result(path: Path) -> EvaluationResult:
    """One of a run's result files.

    Raises:
        XmrError: it is something else; names the first key that is wrong.
    """
    document = parse_json(read_bytes(path), str(path))
    if not isinstance(document, dict):
        raise XmrError(f"{path} holds no JSON object")
    return EvaluationResult.from_dict(document, f"{path}: not what `xmr eval` writes")


def _lines(row: ShownRow, shown: Sequence[str]) -> list[list[str]]:
    """A direction's lines of a notebook's table."""
    return [
        [row.title, "model", *score_cells(row.model, shown)],
        ["", "random", *score_cells(row.random, shown)],
        ["", "times random", *ratio_cells(row, shown)],
    ]


def _side(directions: Directions) -> dict[str, Any]:
    pools = {name: _direction(metrics) for name, metrics in directions.pools.items()}
    return {
        "figures": {name: _direction(metrics) for name, metrics in directions.directions.items()},
        "average": directions.average,
        **({"pools": pools} if pools else {}),
    }


def _direction(metrics: RetrievalMetrics) -> dict[str, Any]:
    """Without curves where there are no labels to draw them by."""
    curves = {"curve": metrics.curve.recall, "scope": metrics.scope.k}
    return {name: value for name, value in asdict(metrics).items() if curves.get(name, True)}


def _in_present_form(document: dict[str, Any]) -> dict[str, Any]:
    """The first versions wrote the directions beside the average, without a name around."""
    found = dict(document)
    for side in ("model", "random"):
        own = found.get(side)
        if isinstance(own, dict) and "average" in own and "figures" not in own:
            others = {name: value for name, value in own.items() if name != "average"}
            found[side] = {"figures": others, "average": own["average"]}
    return found
