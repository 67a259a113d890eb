"""`evaluation/*.json` of a run, whoever wrote it: declared types, and numbers within bounds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import SelectedOn
from xmr_e2e.received import parse, parse_json, read_bytes

Name = Annotated[str, Field(max_length=1000)]
Words = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Figure = Annotated[float, Field(ge=-(10.0**15), le=10.0**15)]
"""neither NaN nor infinite; a rank may be as large as a gallery"""
Scores = dict[Name, Figure]
Points = Annotated[list[Figure], Field(min_length=1, max_length=10_000)]
DirectionName = Annotated[str, Field(pattern=r"^[a-z0-9]{1,50}_to_[a-z0-9]{1,50}$")]


@dataclass(frozen=True)
class SavedProtocol:
    """The protocol of the figures, as `Protocol.document` has it."""

    name: Name
    gallery: Name
    selected_on: SelectedOn
    differences: Annotated[list[Words], Field(max_length=100)]


@dataclass(frozen=True)
class SavedCurve:
    """Mean precision at levels of recall."""

    recall: Points
    precision: Points


@dataclass(frozen=True)
class SavedScope:
    """Mean precision among the first k results."""

    k: Points
    precision: Points


@dataclass(frozen=True)
class SavedFigures:
    """Of one direction; the first versions wrote no more than the scores and how many queries there were."""

    scores: Scores
    queries: Count
    gallery: Count | None = None
    curve: SavedCurve | None = None
    scope: SavedScope | None = None

    @property
    def is_complete(self) -> bool:
        """True where a page of curves can be made of it."""
        return self.gallery is not None and self.curve is not None and self.scope is not None


@dataclass(frozen=True)
class SavedDirections:
    """The figures of all directions, of the model or of random rankings."""

    figures: Annotated[dict[DirectionName, SavedFigures], Field(max_length=100)]
    average: Scores


@dataclass(frozen=True)
class Evaluation:
    """One file. What came with later versions is None in those of earlier ones."""

    dataset: Name
    split: Literal["train", "val", "test"]
    selection: Words
    model: SavedDirections
    random: SavedDirections
    protocol: SavedProtocol | None = None
    definitions: dict[Name, Words] | None = None
    classes: Annotated[list[Name], Field(max_length=10**6)] | None = None
    leaks: Annotated[list[Words], Field(max_length=100)] | None = None
    """what is known to make the figures too high, in sentences"""

    @property
    def is_complete(self) -> bool:
        """True where all is there that this version writes."""
        sides = (self.model.figures, self.random.figures)
        return (
            None not in (self.protocol, self.definitions)
            and self.model.figures.keys() == self.random.figures.keys()
            and all(each.is_complete for side in sides for each in side.values())
        )


def read_evaluation(path: Path) -> Evaluation:
    """One of a run's files of figures.

    Raises:
        XmrError: it is something else; names the first key that is wrong.
    """
    content = read_bytes(path)
    document = parse_json(content, str(path))
    if not isinstance(document, dict):
        raise XmrError(f"{path} holds no JSON object")
    where = f"{path}: not what `xmr eval` writes"
    evaluation = parse(Evaluation, json.dumps(_in_present_form(document)), where)
    for side in (evaluation.model, evaluation.random):
        for name, figures in side.figures.items():
            if not _are_even(figures):
                raise XmrError(f"{where}: {name}: a curve has other numbers of places than of values")
    if not evaluation.model.figures:
        raise XmrError(f"{where}: model.figures has no direction")
    return evaluation


def _in_present_form(document: dict[str, Any]) -> dict[str, Any]:
    """The first versions wrote the directions beside the average, without a name around."""
    for side in ("model", "random"):
        own = document.get(side)
        if isinstance(own, dict) and "average" in own and "figures" not in own:
            others = {name: value for name, value in own.items() if name != "average"}
            document[side] = {"figures": others, "average": own["average"]}
    return document


def _are_even(figures: SavedFigures) -> bool:
    curve, scope = figures.curve, figures.scope
    return (not curve or len(curve.recall) == len(curve.precision)) and (
        not scope or len(scope.k) == len(scope.precision)
    )
